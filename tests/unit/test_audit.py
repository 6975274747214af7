from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeproxy.audit import AuditLog, FileSink, Sink, StdoutSink, sinks_of


class Kept:
    """A sink that keeps its lines, and can be held, broken and rotated."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.reopened: list[int] = []
        self.writing: queue.Queue[None] = queue.Queue()
        self.go = threading.Event()
        self.go.set()
        self.error: OSError | None = None
        self.on_write: Callable[[], None] = lambda: None
        self.closed = False

    def write(self, lines: bytes) -> None:
        self.writing.put(None)
        self.go.wait()
        self.on_write()
        if self.error is not None:
            raise self.error
        self.lines += lines.splitlines()

    def reopen(self) -> None:
        self.reopened.append(len(self.lines))

    def close(self) -> None:
        self.closed = True


def test_each_event_is_one_json_object_a_line_without_empty_keys() -> None:
    sink = Kept()
    log = AuditLog([sink])
    log.emit({"event": "pull", "tag": None, "repository": "a\nb", "bytes": 0})
    log.emit({"event": "push"})
    log.close()
    assert [json.loads(line) for line in sink.lines] == [
        {"event": "pull", "repository": "a\nb", "bytes": 0},
        {"event": "push"},
    ]
    assert (log.written, log.dropped, sink.closed) == (2, 0, True)


@pytest.mark.parametrize("claim", [2**70, "\ud800", {1: 2}, -(2**64)])
def test_a_claim_that_is_hard_to_print_costs_no_line(claim: object) -> None:
    sink = Kept()
    log = AuditLog([sink])
    log.emit({"event": "pull", "claims": {"odd": claim}})
    log.emit({"event": "push"})
    log.close()
    assert [json.loads(line)["event"] for line in sink.lines] == ["pull", "push"]


def test_no_request_waits_for_a_sink_and_what_does_not_fit_is_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Kept()
    sink.go.clear()
    log = AuditLog([sink], queue_events=3)
    log.emit({"n": 0})
    sink.writing.get()  # The thread holds the first; three more fit.
    for number in range(1, 6):
        log.emit({"n": number})
    assert (log.waiting, log.dropped) == (3, 2)
    sink.go.set()
    log.close()
    assert [json.loads(line)["n"] for line in sink.lines] == [0, 1, 2, 3]
    assert [message.partition(",")[0] for message in caplog.messages] == ["2 audit lines were dropped"]


def test_a_close_that_comes_just_when_the_thread_has_gathered_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Kept()
    log = AuditLog([sink])
    awake, clear = log._awake, log._awake.clear

    def clear_late() -> None:
        log._closing.set()
        awake.set()
        clear()

    monkeypatch.setattr(awake, "clear", clear_late)
    log.emit({"n": 1})
    log._thread.join(10)
    assert not log._thread.is_alive()
    assert [json.loads(line)["n"] for line in sink.lines] == [1]


def test_a_sink_that_fails_takes_nothing_from_the_others_and_goes_on_when_it_can() -> None:
    broken, good = Kept(), Kept()
    broken.error = OSError(28, "no space left on device")
    log = AuditLog([broken, good])
    log.emit({"n": 1})
    good.writing.get()
    broken.error = None
    log.emit({"n": 2})
    log.close()
    assert [json.loads(line)["n"] for line in good.lines] == [1, 2]
    assert [json.loads(line)["n"] for line in broken.lines] == [2]
    assert log.dropped == 1


def test_a_rotation_that_comes_while_lines_are_written_is_for_the_next_ones() -> None:
    sink = Kept()
    log = AuditLog([sink])
    sink.on_write = log.reopen
    log.emit({"n": 1})
    sink.writing.get()
    while not sink.lines:
        pass
    sink.on_write = lambda: None
    log.emit({"n": 2})
    log.close()
    assert sink.reopened == [1]


def test_a_rotated_file_is_begun_again_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    sink = FileSink(path)
    sink.write(b"one\n")
    path.rename(tmp_path / "audit.log.1")
    sink.write(b"two\n")
    sink.reopen()
    sink.write(b"three\n")
    sink.close()
    assert (tmp_path / "audit.log.1").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    for _ in range(2):
        log = AuditLog(sinks_of(f"file:{path}"))
        log.emit({"n": 1})
        log.close()
    assert path.read_bytes() == b'{"n":1}\n' * 2


def test_the_setting_names_one_sink_or_several(tmp_path: Path) -> None:
    sinks: list[Sink] = sinks_of(f"stdout, file:{tmp_path / 'a'}")
    assert [type(sink) for sink in sinks] == [StdoutSink, FileSink]
    for sink in sinks:
        sink.reopen()
        sink.close()
    with (tmp_path / "out").open("wb") as stream:
        StdoutSink(stream).write(b"line\n")
    assert (tmp_path / "out").read_bytes() == b"line\n"
