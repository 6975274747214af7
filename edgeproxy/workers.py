"""Several processes behind the same sockets: they behave as replicas do, and share nothing but the listening sockets.

The parent binds, forks, passes on signals, and replaces a worker that died. It never serves itself.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

CRASH_SECONDS: Final = 1.0
"""A worker that dies is replaced after so long, so that one that cannot start does not keep a core busy."""

_log = logging.getLogger(__name__)

Binds = TypeVar("Binds", bound=Any)


def run_workers(
    number: int, binds: Binds, work: Callable[[Binds, int], None], refusal: type[Exception], *, bind: bool
) -> int:
    """Run `work` in so many processes until told to stop; the exit code of the parent. Each is told its place, from 0 on.

    `refusal` is what `work` raises if it cannot start for a reason that people have to mend: then all stop, with exit code 2. `binds` is a
    frozen value of tuples of addresses; with `bind`, workers get the same with `fd://` addresses of sockets that are bound already.
    """
    held: list[Any] = []
    inherited = binds
    if bind:
        inherited = replace(binds, **{item.name: _bind(getattr(binds, item.name), held) for item in fields(binds)})
    return _Parent(number, lambda place: work(inherited, place), refusal).run()


def _bind(addresses: Sequence[str], held: list[Any]) -> tuple[str, ...]:
    """Bind addresses; `held` keeps the sockets open for those who inherit them."""
    if not addresses:
        return ()
    # As the server would; granian's workers bind by themselves, and need not have it imported.
    from edgeproxy.serving_hypercorn import configure  # noqa: PLC0415

    sockets = configure(addresses).create_sockets().insecure_sockets
    held += sockets
    for bound in sockets:
        bound.set_inheritable(True)
    return tuple(f"fd://{bound.fileno()}" for bound in sockets)


class _Parent:
    """Keeps the workers."""

    def __init__(self, number: int, work: Callable[[int], None], refusal: type[Exception]) -> None:
        self._number = number
        self._refusal = refusal
        self._work = work
        self._children: dict[int, int] = {}
        self._stopping = False
        self._signalled, self._signals = os.pipe()

    def run(self) -> int:
        os.set_blocking(self._signals, False)
        signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        for place in range(self._number):
            self._fork(place)
        failed = 0
        while self._children:
            pid, status = self._ended()
            place = self._children.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == _REFUSED:
                # It said why it cannot start; the next one could not either.
                self._pass_on(signal.SIGTERM, None)
                failed = 2
            elif not self._stopping:
                _log.error("worker %d ended with %d; starting another", pid, code)
                time.sleep(CRASH_SECONDS)
                self._fork(place)
        return failed

    def _ended(self) -> tuple[int, int]:
        """Wait for a child that ends: its number and its status."""
        # Python runs a handler between two of its own steps. A signal that comes after the last of them before a system call is handled
        # when that call is over; os.wait() never would be, as no child ends before it is told. The pipe holds what came, whenever it came.
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                return pid, status
            select.select([self._signalled], [], [])
            os.read(self._signalled, _MANY)

    def _fork(self, place: int) -> None:
        """Start a worker, unless all are to stop."""
        # A signal that comes between the fork and the note of its child would reach neither: the child would never end.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        pid = -1 if self._stopping else os.fork()
        if pid > 0:
            self._children[pid] = place
        elif pid == 0:
            signal.set_wakeup_fd(-1)
            os.close(self._signalled)
            os.close(self._signals)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        if pid == 0:
            os._exit(_worker(lambda: self._work(place), self._refusal))

    def _pass_on(self, number: int, _: object) -> None:
        self._stopping = self._stopping or number != signal.SIGHUP
        for pid in self._children:
            # One that has ended a moment ago may not be forgotten yet.
            with suppress(ProcessLookupError):
                os.kill(pid, number)


_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_MANY: Final = 4096
"""Signals that are taken note of at once."""

_REFUSED: Final = 78
"""Exit code of a worker whose start was refused (EX_CONFIG of sysexits.h)."""


def _worker(work: Callable[[], None], refusal: type[Exception]) -> int:
    try:
        work()
    except KeyboardInterrupt:
        return 130
    except refusal as error:
        sys.stderr.write(f"{error}\n")
        return _REFUSED
    except Exception:  # noqa: BLE001 - the last line of a process
        _log.exception("the worker failed")
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
