"""Follows HTTP/1.1 as it passes by: where messages begin and end, and how many bytes each had. It changes nothing. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

MAX_HEAD: Final = 256 * 1024


class NotHttp(ValueError):
    """What passes by is not HTTP/1.1, so that it cannot be counted."""


@dataclass(slots=True)
class Message:
    """One request or response. `wire` is all its bytes, `body` those of its content; times as the caller's clock has them."""

    start_line: str
    fields: Mapping[str, str]
    began: float
    wire: int = 0
    body: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request with its final response. `sent` and `received` are the bytes of the server: all that passed, 100 Continue included."""

    method: str
    target: str
    status: int
    fields: Mapping[str, str]
    received: int
    sent: int
    received_body: int
    sent_body: int
    seconds: float


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    TRAILER = auto()
    REST = auto()


class _Follower:
    """Follows the messages of one direction; `began` is asked whether a message has no body, `ended` is told when it is over."""

    def __init__(
        self, began: Callable[[Message], bool], ended: Callable[[Message, float], None], *, requests: bool
    ) -> None:
        self._began = began
        self._ended = ended
        self._requests = requests
        self._state = _State.HEAD
        self._held = b""
        self._left = 0
        self._message: Message | None = None
        self.first_byte = 0.0

    def feed(self, data: bytes, now: float) -> None:
        view = self._held + data if self._held else data
        self._held = b""
        position = 0
        while position < len(view):
            if self._state in {_State.BODY, _State.CHUNK, _State.REST}:
                position = self._pass(len(view), position, now)
                continue
            end = view.find(b"\r\n\r\n" if self._state is _State.HEAD else b"\r\n", position)
            if end < 0:
                if len(view) - position > MAX_HEAD:
                    raise NotHttp(f"no end of a head within {MAX_HEAD} bytes")
                if self._state is _State.HEAD:
                    self.first_byte = self.first_byte or now
                self._held = view[position:]
                return
            position = self._line(view, position, end, now)

    def close(self, now: float) -> None:
        """Tell that the connection ended, which ends whatever message was under way."""
        if self._message is not None:
            self._over(now)

    def _pass(self, length: int, position: int, now: float) -> int:
        message = self._message
        assert message is not None
        step = length - position if self._state is _State.REST else min(self._left, length - position)
        message.wire += step
        if self._state is _State.CHUNK:
            # The last two bytes end the chunk's line.
            message.body += max(0, min(step, self._left - 2))
        else:
            message.body += step
        self._left -= step
        if self._left == 0 and self._state is _State.CHUNK:
            self._state = _State.CHUNK_SIZE
        elif self._left == 0 and self._state is _State.BODY:
            self._over(now)
        return position + step

    def _line(self, view: bytes, position: int, end: int, now: float) -> int:
        if self._state is _State.HEAD:
            after = end + 4
            self._head(view[position:end], after - position, now)
            return after
        message = self._message
        assert message is not None
        after = end + 2
        message.wire += after - position
        if self._state is _State.TRAILER:
            if end == position:
                self._over(now)
            return after
        try:
            size = int(view[position:end].partition(b";")[0], 16)
        except ValueError:
            raise NotHttp("a chunk without its size") from None
        self._state, self._left = (_State.CHUNK, size + 2) if size else (_State.TRAILER, 0)
        return after

    def _head(self, head: bytes, wire: int, now: float) -> None:
        start_line, *lines = head.decode("latin-1").split("\r\n")
        if start_line.count(" ") < 2 and not start_line.startswith("HTTP/1."):
            raise NotHttp(f"{start_line[:40]!r} is no start of a message")
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        message = Message(start_line, fields, self.first_byte or now, wire)
        self.first_byte = 0.0
        self._message = message
        if self._began(message):
            self._over(now)
        elif "chunked" in fields.get("transfer-encoding", "").lower():
            self._state = _State.CHUNK_SIZE
        elif (length := fields.get("content-length")) is not None:
            if not length.isdecimal():
                raise NotHttp(f"Content-Length {length[:40]!r} is no number")
            self._state, self._left = _State.BODY, int(length)
            if self._left == 0:
                self._over(now)
        elif self._requests:
            self._over(now)
        else:
            self._state, self._left = _State.REST, -1

    def _over(self, now: float) -> None:
        message = self._message
        assert message is not None
        self._message, self._state = None, _State.HEAD
        self._ended(message, now)


@dataclass(slots=True, eq=False)
class Connection:
    """Follows both directions of a connection and pairs them into exchanges.

    `done` gets each exchange when request and response are both over.
    """

    done: Callable[[Exchange], None]
    _asked: deque[Message] = field(default_factory=deque)
    _complete: deque[Message] = field(default_factory=deque)
    _answered: deque[tuple[Message, float]] = field(default_factory=deque)
    _methods: deque[str] = field(default_factory=deque)
    _interim: int = 0
    _requests: _Follower = field(init=False)
    _responses: _Follower = field(init=False)

    def __post_init__(self) -> None:
        self._requests = _Follower(self._request_began, self._request_ended, requests=True)
        self._responses = _Follower(self._response_began, self._response_ended, requests=False)

    @property
    def in_flight(self) -> int:
        """Number of requests that have no whole answer yet."""
        return len(self._asked)

    def from_client(self, data: bytes, now: float) -> None:
        """Take what the client sent.

        Raises:
            NotHttp: it is not HTTP/1.1.

        """
        self._requests.feed(data, now)

    def from_server(self, data: bytes, now: float) -> None:
        """Take what the server sent.

        Raises:
            NotHttp: it is not HTTP/1.1.

        """
        self._responses.feed(data, now)

    def closed(self, now: float) -> None:
        """Tell that the connection ended: what was asked and answered counts, even if the rest of a body never came."""
        self._requests.close(now)
        self._responses.close(now)

    def _request_began(self, message: Message) -> bool:
        self._asked.append(message)
        self._methods.append(message.start_line.partition(" ")[0])
        return False

    def _request_ended(self, message: Message, _: float) -> None:
        self._complete.append(message)
        self._pair()

    def _response_began(self, message: Message) -> bool:
        status = _status(message)
        if 100 <= status < 200:
            return True
        method = self._methods.popleft() if self._methods else ""
        return method == "HEAD" or status in {204, 304}

    def _response_ended(self, message: Message, now: float) -> None:
        if 100 <= _status(message) < 200:
            self._interim += message.wire
            return
        self._answered.append((message, now))
        self._pair()

    def _pair(self) -> None:
        while self._complete and self._answered:
            request, (response, ended) = self._complete.popleft(), self._answered.popleft()
            self._asked.popleft()
            method, target = request.start_line.split(" ")[:2]
            interim, self._interim = self._interim, 0
            self.done(
                Exchange(
                    method=method,
                    target=target,
                    status=_status(response),
                    fields=request.fields,
                    received=request.wire,
                    sent=response.wire + interim,
                    received_body=request.body,
                    sent_body=response.body,
                    seconds=ended - request.began,
                )
            )


def _status(message: Message) -> int:
    parts = message.start_line.split(" ")
    if not message.start_line.startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():
        raise NotHttp(f"{message.start_line[:40]!r} is no status line")
    return int(parts[1])
