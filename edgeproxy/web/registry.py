"""The request's story: parse the operation, authenticate, decide, perform, respond, audit.

One catch-all under /v2/ and one parse: policy, storage and response all read the same frozen value. Decisions are made on the raw path,
never on a decoded one and never on `Host`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from edgeproxy.access.decisions import Reason
from edgeproxy.access.refusals import TokenRefused
from edgeproxy.oci import operations as ops
from edgeproxy.oci.errors import RegistryError, Unavailable
from edgeproxy.oci.operations import Access, Action, Operation
from edgeproxy.oci.requests import parse
from edgeproxy.registry.blobs import blob_unknown
from edgeproxy.registry.service import Registry
from edgeproxy.registry.tags import manifest_unknown
from edgeproxy.storage import Presigner, StoreError
from edgeproxy.web.answers import Answer, Send, json_answer, refusal, send_answer
from edgeproxy.web.blobs import BlobEndpoints, Delivery
from edgeproxy.web.bodies import ClientGone, Receive, RequestBody
from edgeproxy.web.exchanges import Exchange, current_request, request_id
from edgeproxy.web.gate import Gate, PolicyDenied
from edgeproxy.web.heads import Head
from edgeproxy.web.manifests import ManifestEndpoints
from edgeproxy.web.records import Record

ANSWER_SECONDS: Final = 45.0
"""An answer comes within this time of the last byte of the request, whatever the store does."""

_API_VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")

_log = logging.getLogger(__name__)


def _access(operation: Operation | None) -> Access | None:
    """Say what access an operation needs, if it needs any."""
    if operation is None or isinstance(operation, ops.Ping | ops.WhoAmI | ops.CanI | ops.ListCatalog):
        return None
    return Access(operation.repository, operation.action)


def _nothing() -> None:
    """Do nothing when a body ends."""


Handler = Callable[[Any, Exchange], Awaitable[Answer]]
AtOnce = Callable[[Any, Exchange], Answer | None]


class RegistryEndpoint:
    """The ASGI application under /v2/."""

    def __init__(
        self,
        registry: Registry,
        gate: Gate,
        presigner: Presigner,
        delivery: Delivery,
        *,
        max_manifest_bytes: int,
        record: Record,
        make_id: Callable[[], str],
    ) -> None:
        self._gate = gate
        self._record = record
        self._make_id = make_id
        self._draining: set[asyncio.Task[None]] = set()
        blobs = BlobEndpoints(registry, gate, presigner, delivery)
        manifests = ManifestEndpoints(registry, gate, max_manifest_bytes)
        self._handlers: dict[type[Any], Handler] = {
            ops.Ping: self._ping,
            ops.WhoAmI: self._who_am_i,
            ops.CanI: self._can_i,
            ops.GetBlob: blobs.get,
            ops.DeleteBlob: blobs.delete,
            ops.StartUpload: blobs.start,
            ops.UploadWhole: blobs.upload_whole,
            ops.MountBlob: blobs.mount,
            ops.UploadStatus: blobs.status,
            ops.AppendUpload: blobs.append,
            ops.FinishUpload: blobs.finish,
            ops.CancelUpload: blobs.cancel,
            ops.GetManifest: manifests.get,
            ops.PutManifest: manifests.put,
            ops.DeleteManifest: manifests.delete,
            ops.ListTags: manifests.tags,
            ops.ListReferrers: manifests.referrers,
            ops.ListCatalog: manifests.catalog,
        }
        self._at_once: dict[type[Any], AtOnce] = {
            ops.GetBlob: blobs.get_at_once,
            ops.GetManifest: manifests.get_at_once,
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request under /v2/."""
        try:
            head = Head.read(scope)
        except RegistryError as error:
            # There may be a body, however it is framed.
            head = Head(scope["method"], scope["raw_path"], b"", {}, None, has_body=True, peer="")
            exchange = Exchange(self._make_id(), head, RequestBody(receive, head))
            unreadable = refusal(error, exchange.id)
            self._record.unreadable(exchange, unreadable)
            await self._respond(exchange, unreadable, send)
            self._read_on(exchange.body)
            return
        exchange = Exchange(request_id(head, self._make_id), head, RequestBody(receive, head))
        current_request.set(exchange.id)
        try:
            answer = await self._answer(exchange)
            if answer is not None:
                await self._respond(exchange, answer, send)
        finally:
            await exchange.close()
        self._read_on(exchange.body)

    def _read_on(self, body: RequestBody) -> None:
        """Have somebody take what the server still hands over on a connection that is given up, until it has closed it."""
        if not body.finished and not body.gone:
            task = asyncio.create_task(body.until_gone())
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)

    async def _answer(self, exchange: Exchange) -> Answer | None:
        """Tell the story; every way in which it can end is an answer, but for a client that has gone."""
        try:
            answer = self._perform_at_once(exchange)
            if answer is None:
                # Nearly all requests have no body; for them the plain time-out does, at half the price.
                timed = asyncio.timeout(ANSWER_SECONDS) if exchange.body.finished else self._deadline(exchange.body)
                async with timed:
                    answer = await self._perform(exchange)
        except PolicyDenied as denied:
            answer = refusal(denied.answer, exchange.id)
            self._record.denied(exchange, denied, answer)
            return answer
        except TokenRefused as refused:
            answer = refusal(self._gate.unbelieved(refused, _access(exchange.operation)), exchange.id)
            self._record.unbelieved(exchange, refused, answer)
            return answer
        except RegistryError as error:
            answer = refusal(error, exchange.id)
            self._record.refused(exchange, error, answer)
            return answer
        except ClientGone:
            self._record.gone(exchange)
            return None
        except (StoreError, TimeoutError) as error:
            _log.error("%s: the store cannot answer: %s", exchange.id, error or type(error).__name__)
            unavailable = Unavailable("the object store cannot answer now; try again")
            answer = refusal(unavailable, exchange.id)
            self._record.refused(exchange, unavailable, answer)
            return answer
        except Exception:  # noqa: BLE001 - the boundary
            # Whatever is wrong in here, the client gets an answer and the operator the traceback.
            _log.exception("%s: unexpected", exchange.id)
            internal = RegistryError("the registry failed to answer; the operator finds the reason in its log")
            answer = refusal(internal, exchange.id)
            self._record.refused(exchange, internal, answer)
            return answer
        self._record.answered(exchange, answer)
        return answer

    def _perform_at_once(self, exchange: Exchange) -> Answer | None:
        """Parse, and go on as far as everything is remembered: a warm pull is answered here, without a wait, a task or a timer.

        None if somebody has to be asked: then `_perform` takes the same steps with time to wait.
        """
        head = exchange.head
        operation = exchange.operation = parse(head.method, head.raw_path, head.query)
        perform = self._at_once.get(type(operation))
        who = self._gate.remembered(head) if perform is not None else None
        if perform is None or who is None:
            return None
        exchange.who = who
        self._decide(operation, exchange)
        return perform(operation, exchange)

    async def _perform(self, exchange: Exchange) -> Answer:
        operation = exchange.operation
        assert operation is not None
        if exchange.grant is None:
            exchange.who = await self._gate.identify(exchange.head)
            self._decide(operation, exchange)
        return await self._handlers[type(operation)](operation, exchange)

    def _decide(self, operation: Operation, exchange: Exchange) -> None:
        match operation:
            case ops.Ping():
                self._gate.admit(exchange.who)
            case ops.WhoAmI() | ops.CanI() | ops.ListCatalog():
                pass  # They tell a caller about itself, and list only what it may see.
            case _:
                access = Access(operation.repository, operation.action)
                try:
                    exchange.grant = self._gate.permit(exchange.who, access)
                except PolicyDenied as denied:
                    raise self._told(denied, operation, exchange) from None

    def _told(self, denied: PolicyDenied, operation: Operation, exchange: Exchange) -> PolicyDenied:
        """Word a refusal to pull for who may push: nothing is there yet. Clients look before they push, and a 403 ends their push.

        It tells nothing: it is the same for what exists and what does not, and what is pushed again has to be possessed.
        """
        unknown: RegistryError
        if isinstance(operation, ops.GetBlob):
            unknown = blob_unknown(operation.repository, operation.digest)
        elif isinstance(operation, ops.GetManifest):
            unknown = manifest_unknown(operation.repository, operation.reference)
        else:
            return denied
        by_policy = denied.denial is not None and denied.denial.reason is not Reason.EXPIRED
        if not (by_policy and self._gate.may_here(exchange.who, operation.repository, Action.PUSH)):
            return denied
        return PolicyDenied(unknown, denied.access, denied.denial)

    async def _respond(self, exchange: Exchange, answer: Answer, send: Send) -> None:
        if answer.stream is not None:
            answer = replace(answer, stream=self._record.counters.proxied(answer.stream))
        always = [(b"x-request-id", exchange.id.encode()), _API_VERSION]
        try:
            await send_answer(answer, exchange.body, send, always, head=exchange.head.method == "HEAD")
        except (StoreError, TimeoutError) as error:
            # The head is out; ending the connection short is the only way left to say that the body is not whole.
            _log.error("%s: body cut off: %s", exchange.id, error or type(error).__name__)

    @staticmethod
    @asynccontextmanager
    async def _deadline(body: RequestBody) -> AsyncIterator[asyncio.Timeout]:
        """End what takes longer than `ANSWER_SECONDS` after the last byte of the body; until then the time is the sender's."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as deadline:

            def start() -> None:
                deadline.reschedule(loop.time() + ANSWER_SECONDS)

            body.on_end = start
            try:
                yield deadline
            finally:
                body.on_end = _nothing

    async def _ping(self, operation: ops.Ping, exchange: Exchange) -> Answer:
        return json_answer({})

    async def _who_am_i(self, operation: ops.WhoAmI, exchange: Exchange) -> Answer:
        caller = exchange.who.caller
        if caller is None:
            return json_answer({"anonymous": True})
        return json_answer(
            {
                "anonymous": False,
                "issuer": caller.issuer,
                "subject": caller.subject,
                "claims": dict(caller.claims),
                "expires": int(caller.ends),
            }
        )

    async def _can_i(self, operation: ops.CanI, exchange: Exchange) -> Answer:
        allowed = self._gate.may(exchange.who, operation.repository, operation.action)
        return json_answer(
            {"allowed": allowed, "repository": operation.repository.name, "action": str(operation.action)}
        )
