"""Where a filesystem store does its synchronous work, so that the loop never waits for a disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from edgeproxy.storage import StoreUnavailable

_THREADS: Final = 16

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_FULL: Final = "the disk is full: free space on it or give the store a larger one"
_DENIED: Final = "permission denied: let the user that runs this own the directory and write in it"
_DESCRIPTORS: Final = "too many open files: raise the limit (ulimit -n)"
_ADVICE: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the quota is used up: raise it or free space",
    errno.EACCES: _DENIED,
    errno.EPERM: f"{_DENIED}; the file system must have hard links",
    errno.EROFS: "the file system is mounted read-only: mount it for writing",
    errno.EIO: "the disk fails: see the kernel's log, restore onto another disk",
    errno.EMFILE: _DESCRIPTORS,
    errno.ENFILE: _DESCRIPTORS,
    errno.ENAMETOOLONG: "the file system does not take names that long: shorten the name of the repository or tag",
    errno.ENOENT: "the directory has gone: is the disk mounted?",
}


class Threads:
    """Runs synchronous work for the loop, and words its errors."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="filesystem-store")

    async def run(
        self, what: str, work: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Run one piece of work; `what` names it in errors.

        Cancellation waits for work that has begun: the buffer or descriptor it uses is the caller's again then.

        Raises:
            StoreUnavailable: in place of an `OSError`; says what to do.

        """
        try:
            running = self._pool.submit(work, *args, **kwargs)
        except RuntimeError:
            raise StoreUnavailable(f"{what}: the store is closed") from None
        waiting = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(waiting)
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, error.strerror or type(error).__name__)
            raise StoreUnavailable(f"{what} in {self._root}: {advice}") from error
        except asyncio.CancelledError:
            if not running.cancel():
                await _settled(waiting)
            raise

    async def close(self) -> None:
        """End the threads when their work is done."""
        await asyncio.to_thread(self._pool.shutdown)


async def _settled(waiting: asyncio.Future[_Result]) -> None:
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            continue
    # Looked at, so that asyncio does not report it as lost.
    waiting.exception()
