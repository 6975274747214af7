"""One request on its way through the registry."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from edgeproxy.access.credentials import ANONYMOUS, Authenticated
from edgeproxy.access.decisions import Grant
from edgeproxy.oci.operations import Operation
from edgeproxy.web.bodies import RequestBody
from edgeproxy.web.heads import Head

Opened = TypeVar("Opened")

current_request: Final[ContextVar[str]] = ContextVar("current_request", default="")
"""The id of the request that runs in this context; the log reads it. Servers give each request a context of its own."""

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._=+/-]{1,128}", re.ASCII)


@dataclass(slots=True)
class Exchange:
    """What is known of a request so far; filled in as its story goes on, and told to the audit at the end."""

    id: str
    head: Head
    body: RequestBody
    operation: Operation | None = None
    who: Authenticated = ANONYMOUS
    grant: Grant | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)
    _opened: AsyncExitStack | None = None

    async def enter(self, context: AbstractAsyncContextManager[Opened]) -> Opened:
        """Open what has to stay open until the answer is sent."""
        self._opened = self._opened or AsyncExitStack()
        return await self._opened.enter_async_context(context)

    async def close(self) -> None:
        """Close what was opened; nearly always nothing."""
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def session_owner(self) -> str:
        """Name the caller for upload sessions: one caller's session is no other's."""
        caller = self.who.caller
        return f"{caller.issuer}\n{caller.subject}" if caller is not None else ""

    @property
    def subject(self) -> str:
        """Name the caller for people."""
        return self.who.caller.subject if self.who.caller is not None else ""


def request_id(head: Head, make: Callable[[], str]) -> str:
    """Keep the caller's own request id if it is sane, or make one."""
    given = head.fields.get(b"x-request-id")
    if given is not None and len(given) == 1:
        text = given[0].decode("latin-1")
        if _SANE_ID.fullmatch(text) is not None:
            return text
    return make()


class RequestIds:
    """Makes request ids: a number after what tells this process from all others. No system call each, as random ones would need."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        """Make an id that no other request has."""
        return f"{self._process}-{next(self._numbers):x}"
