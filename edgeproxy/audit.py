"""The audit line: one event per decision, as one JSON object a line, written by a thread so that no request waits for a sink.

Never in a line: a token, a presigned query, a key.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson

QUEUE_EVENTS: Final = 50_000
"""Events that may wait for the sinks; what does not fit is counted and dropped, as pulls must not stop for a full disk."""

GATHER_SECONDS: Final = 0.02
"""How long the thread of a busy process rests after it wrote, so that lines gather: waking it for each costs more than the line itself."""

BUSY_LINES: Final = 4
BUSY_SECONDS: Final = 0.001
"""A process is busy if more lines had gathered, or if the next came sooner after the last ones. Else each line is written at once."""

WRITE_EVENTS: Final = 1000
"""Lines handed to a sink with one write."""

_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where lines go."""

    def write(self, lines: bytes) -> None:
        """Write whole lines."""

    def reopen(self) -> None:
        """Open the target again, after it was rotated."""

    def close(self) -> None:
        """Write what is buffered and let go of the target."""


class StdoutSink:
    """Lines on standard output."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    def write(self, lines: bytes) -> None:
        """Write whole lines."""
        self._stream.write(lines)
        self._stream.flush()

    def reopen(self) -> None:
        """Do nothing: standard output is not rotated."""

    def close(self) -> None:
        """Leave standard output open."""


class FileSink:
    """Lines appended to a file that somebody else rotates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, lines: bytes) -> None:
        """Write whole lines with one call, so that several processes may share a file."""
        self._file.write(lines)

    def reopen(self) -> None:
        """Open the file under its name again."""
        fresh = self._path.open("ab", buffering=0)
        self._file.close()
        self._file = fresh

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sinks_of(setting: str) -> list[Sink]:
    """Make the sinks of a checked `EDGEPROXY_AUDIT` setting: `stdout`, `file:PATH`, comma-separated."""
    sinks: list[Sink] = []
    for item in setting.split(","):
        kind, _, path = item.strip().partition(":")
        sinks.append(FileSink(Path(path)) if kind == "file" else StdoutSink())
    return sinks


class AuditLog:
    """Takes events from the loop and writes them from a thread."""

    def __init__(self, sinks: Sequence[Sink], queue_events: int = QUEUE_EVENTS) -> None:
        self._sinks = sinks
        # Adding to it and taking from it are atomic, so the loop takes no lock that a thread which writes could hold.
        self._lines: deque[bytes] = deque()
        self._limit = queue_events
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._reopen = threading.Event()
        self.dropped = 0
        self.written = 0
        self._told = 0
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Hand over an event; never blocks. Keys without a value (None) are left out of the line."""
        if len(self._lines) >= self._limit:
            self.dropped += 1
            return
        self._lines.append(_line(event))
        if not self._awake.is_set():
            self._awake.set()

    def reopen(self) -> None:
        """Have the sinks open their targets again before the next line."""
        self._reopen.set()

    @property
    def waiting(self) -> int:
        """Say how many events wait for the sinks."""
        return len(self._lines)

    def close(self) -> None:
        """Write everything that was handed over, then close the sinks."""
        self._closing.set()
        self._awake.set()
        self._thread.join()
        for sink in self._sinks:
            sink.close()

    def _run(self) -> None:
        closing, rested = False, 0.0
        while not closing:
            self._awake.wait()
            woken = time.monotonic()
            # Cleared before lines are taken and the end is looked for: what comes later wakes this thread again.
            self._awake.clear()
            closing = self._closing.is_set()
            # Those that are there now, and no later ones: a busy loop adds lines as fast as they are written.
            gathered = len(self._lines)
            for start in range(0, gathered, WRITE_EVENTS):
                self._write_some(min(WRITE_EVENTS, gathered - start))
            if gathered > BUSY_LINES or woken - rested < BUSY_SECONDS:
                self._closing.wait(GATHER_SECONDS)
            rested = time.monotonic()

    def _write_some(self, number: int) -> None:
        lines = [self._lines.popleft() for _ in range(number)]
        # Cleared before the sinks are asked: a rotation that comes while they write is for the next lines.
        reopen = self._reopen.is_set()
        self._reopen.clear()
        for sink in self._sinks:
            self._write(sink, lines, reopen=reopen)
        self.written += len(lines)
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        """Have the operator's log say it, once for all that were dropped since it last did."""
        dropped = self.dropped
        if dropped > self._told:
            _log.error("%s audit lines were dropped, as their sinks do not keep up or fail", dropped - self._told)
            self._told = dropped

    def _write(self, sink: Sink, lines: Sequence[bytes], *, reopen: bool) -> None:
        try:
            if reopen:
                sink.reopen()
            sink.write(b"".join(lines))
        except OSError as error:
            self.dropped += len(lines)
            _log.error("audit lines could not be written: %s", error)


def _line(event: Mapping[str, Any]) -> bytes:
    present = {key: value for key, value in event.items() if value is not None}
    try:
        return orjson.dumps(present, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # A claim may hold what orjson does not print, such as half a surrogate or a very large number.
        return json.dumps(present, default=str).encode() + b"\n"
