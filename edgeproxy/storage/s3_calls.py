"""One call to the store: attempts, back-off, deadline. The SDK's own retries are off, as they know no deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
from aiobotocore.config import AioConfig
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError

from edgeproxy.storage import PreconditionFailed, StoreUnavailable
from edgeproxy.storage.s3_body import SIGNATURE_VERSION
from edgeproxy.storage.s3_errors import Failure, NoSuchUpload, Refused, Verdict, failure

T = TypeVar("T")
Answer = dict[str, Any]
"""What the SDK parsed out of a response."""

OnCall = Callable[[str, float, str], None]
"""Observer of every attempt: operation, seconds, outcome (`ok` or the store's error code); `retry` before one that follows a failure."""

ERRORS: Final = (BotoCoreError, ClientError, Refused, ResponseParserError, aiohttp.ClientError, OSError, RuntimeError)
"""All that an attempt may end with. RuntimeError: a renewed credential that is expired, or a closed session."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often. Times in seconds; those of a call that moves bytes are longer by a second a MiB.

    `deadline` bounds a call with all its attempts, `read` one attempt. `backoff` is the first wait, doubled each time up
    to 2 s; `slow_down` the wait after 429, as R2 takes one write a second a key. Every wait varies by half.
    """

    connect: float = 3.0
    read: float = 15.0
    deadline: float = 20.0
    attempts: int = 8
    backoff: float = 0.1
    slow_down: float = 1.0
    connections: int = 64
    copy_whole: int = 1024 * 1024 * 1024
    copy_part: int = 128 * 1024 * 1024
    copy_parallel: int = 8


class Calls:
    """The SDK's client of one bucket, and the way every call goes through it.

    `random` gives numbers from 0 to 1, `sleep` waits.
    """

    def __init__(
        self,
        session: Any,
        bucket: str,
        endpoint: str | None,
        region: str,
        limits: Limits,
        *,
        on_call: OnCall | None,
        random: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.bucket = bucket
        self.limits = limits
        self.signs_payload = endpoint is not None and not endpoint.lower().startswith("https:")
        self._session = session
        self._endpoint = endpoint
        self._region = region
        self._on_call = on_call
        self._random = random
        self._sleep = sleep
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Make the client; no request is sent yet.

        Raises:
            StoreUnavailable: the credential in the environment or a profile is no whole one.

        """
        config = AioConfig(
            signature_version="s3v4",
            # R2 refuses the checksum trailers that the SDK would add by itself.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=self.limits.connect,
            # Attempts are bounded by `call`, as only it knows how many bytes they move.
            read_timeout=None,
            max_pool_connections=self.limits.connections,
            s3={"addressing_style": "path", "payload_signing_enabled": self.signs_payload},
        )
        making = self._session.create_client("s3", region_name=self._region, endpoint_url=self._endpoint, config=config)
        try:
            self._client = await self._stack.enter_async_context(making)
        except ERRORS as error:
            raise failure("credentials", "", error).error from None
        events = self._client.meta.events
        # A round trip for every small write, and Cloudflare does not offer it.
        events.unregister("before-call.s3", add_expect_header)
        events.register_last("before-parameter-build.s3", _stay_in_region)
        for operation in ("PutObject", "UploadPart"):
            events.register_first(f"choose-signer.s3.{operation}", _choose_signer)

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    @property
    def endpoint(self) -> str:
        """URL of the store as this process reaches it."""
        return str(self._client.meta.endpoint_url)

    async def call(
        self,
        operation: str,
        key: str = "",
        *,
        moves: int = 0,
        finish: Callable[[Answer], Awaitable[None]] | None = None,
        settle: Callable[[], Awaitable[Answer | None]] | None = None,
        **parameters: Any,
    ) -> Answer:
        """Call an operation on the bucket, or on `key`, until it succeeds, fails for good, or the deadline is over.

        `moves` is the number of bytes that the call moves. `finish` is run within each attempt (to read a body).
        `settle` is asked when a refusal follows an attempt whose answer was lost: it gives the answer of that attempt,
        if it did take effect.

        Raises:
            StoreError: what `s3_errors` makes of the last failure.

        """
        parameters["Bucket"] = self.bucket
        if key:
            parameters["Key"] = key
        method = getattr(self._client, xform_name(operation))

        async def send() -> Answer:
            answer: Answer = await method(**parameters)
            if finish is not None:
                await finish(answer)
            return answer

        return await self.until_done(operation, key, send, moves=moves, settle=settle)

    async def until_done(
        self,
        operation: str,
        key: str,
        send: Callable[[], Awaitable[T]],
        *,
        moves: int = 0,
        settle: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        """Send a request until it succeeds, fails for good, or the deadline is over; see `call`."""
        allowance = moves / (1024 * 1024)

        async def attempt() -> T:
            started, outcome = time.perf_counter(), "cancelled"
            try:
                async with asyncio.timeout(self.limits.read + allowance):
                    answer = await send()
            except ERRORS as error:
                outcome = failure(operation, key, error).code
                raise
            else:
                outcome = "ok"
                return answer
            finally:
                if self._on_call is not None:
                    self._on_call(operation, time.perf_counter() - started, outcome)

        failures: list[Failure] = []
        try:
            async with asyncio.timeout(self.limits.deadline + allowance) as scope:
                deadline = scope.when() or float("inf")
                return await self._until_done(
                    operation, key, attempt, settle=settle, failures=failures, deadline=deadline
                )
        except TimeoutError:
            last = f"; the last failure was {failures[-1].code}" if failures else ""
            raise StoreUnavailable(f"{operation} {key}: not done within the deadline{last}") from None

    async def _until_done(
        self,
        operation: str,
        key: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        settle: Callable[[], Awaitable[T | None]] | None,
        failures: list[Failure],
        deadline: float,
    ) -> T:
        while True:
            try:
                return await attempt()
            except ERRORS as error:
                failed = failure(operation, key, error)
            if failed.verdict is Verdict.GIVE_UP:
                lost = any(earlier.verdict is Verdict.RETRY for earlier in failures)
                if settle is not None and lost and isinstance(failed.error, PreconditionFailed | NoSuchUpload):
                    answer = await settle()
                    if answer is not None:
                        return answer
                raise failed.error
            failures.append(failed)
            wait = self._wait(len(failures), failed.verdict)
            if len(failures) >= self.limits.attempts or asyncio.get_running_loop().time() + wait >= deadline:
                raise failed.error
            if self._on_call is not None:
                self._on_call(operation, wait, "retry")
            await self._sleep(wait)

    def _wait(self, failures: int, verdict: Verdict) -> float:
        doubled = min(self.limits.backoff * 2 ** (failures - 1), 2.0) / 1.5
        seconds = self.limits.slow_down if verdict is Verdict.RETRY_SLOWLY else doubled
        return seconds * (1 + 0.5 * self._random())


def _choose_signer(**_: object) -> str:
    return SIGNATURE_VERSION


def _stay_in_region(context: dict[str, Any], **_: object) -> None:
    """Keep the SDK from going on in the region that the store names: our own presigner would go on with the one of the settings."""
    context.setdefault("s3_redirect", {})["redirected"] = True
