"""What is told of each request: the audit line, and the counters behind /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from edgeproxy.access.decisions import Grant
from edgeproxy.access.policy import Policy
from edgeproxy.access.refusals import TokenRefused
from edgeproxy.audit import AuditLog
from edgeproxy.counters import ANONYMOUS, UNKNOWN, Counters, Histogram, outcome_of
from edgeproxy.oci import operations as ops
from edgeproxy.oci.errors import RegistryError
from edgeproxy.oci.names import Digest, Tag
from edgeproxy.web.answers import Answer
from edgeproxy.web.exchanges import Exchange
from edgeproxy.web.gate import PolicyDenied
from edgeproxy.web.token import TokenEvent

_EVENTS: Final[Mapping[type[Any], str]] = {
    ops.GetBlob: "pull",
    ops.GetManifest: "pull",
    ops.PutManifest: "push",
    ops.UploadWhole: "push",
    ops.FinishUpload: "push",
    ops.MountBlob: "push",
    ops.StartUpload: "upload",
    ops.AppendUpload: "upload",
    ops.UploadStatus: "upload",
    ops.CancelUpload: "upload",
    ops.DeleteBlob: "delete",
    ops.DeleteManifest: "delete",
    ops.ListTags: "list",
    ops.ListReferrers: "list",
    ops.ListCatalog: "list",
}

OPERATION_NAMES: Final[Mapping[type[Any], str]] = {
    type(None): "other",
    ops.Ping: "ping",
    ops.WhoAmI: "who_am_i",
    ops.CanI: "can_i",
    ops.GetBlob: "get_blob",
    ops.DeleteBlob: "delete_blob",
    ops.StartUpload: "start_upload",
    ops.UploadWhole: "upload_whole",
    ops.MountBlob: "mount_blob",
    ops.UploadStatus: "upload_status",
    ops.AppendUpload: "append_upload",
    ops.FinishUpload: "finish_upload",
    ops.CancelUpload: "cancel_upload",
    ops.GetManifest: "get_manifest",
    ops.PutManifest: "put_manifest",
    ops.DeleteManifest: "delete_manifest",
    ops.ListTags: "list_tags",
    ops.ListReferrers: "list_referrers",
    ops.ListCatalog: "list_catalog",
}
_HEADS: Final[Mapping[type[Any], str]] = {ops.GetBlob: "head_blob", ops.GetManifest: "head_manifest"}


class Record:
    """Writes one audit event for each decision, and counts each request once: in whichever of these methods tells of its end."""

    def __init__(
        self,
        audit: AuditLog,
        clock: Callable[[], float],
        policy_version: Callable[[], str],
        counters: Counters | None = None,
    ) -> None:
        self.counters = counters or Counters()
        # The way from an exchange to its counter, in one look-up.
        self._requests: dict[tuple[type[Any], bool, str], Histogram] = {}
        self._audit = audit
        self._clock = clock
        self._policy_version = policy_version

    def answered(self, exchange: Exchange, answer: Answer) -> None:
        """Tell of an operation that was performed."""
        if answer.status == 307:
            self.counters.delegated_bytes += answer.facts["bytes"]
            self._count(exchange, "redirected")
        else:
            self._count(exchange, "ok")
        event = _EVENTS.get(type(exchange.operation))
        if event is not None:
            self._emit(exchange, event, "allowed", answer.facts)

    def denied(self, exchange: Exchange, denied: PolicyDenied, answer: Answer) -> None:
        """Tell of a refusal by policy, with the whole explanation."""
        facts: dict[str, Any] = {"action": str(denied.access.action), "status": answer.status}
        denial = denied.denial
        facts["reason"] = "insufficient_scope" if denial is None else str(denial.reason)
        if denial is not None:
            facts["rule"] = denial.rule or None
            if denial.mismatch is not None:
                mismatch = denial.mismatch
                facts["nearest"] = {
                    "rule": mismatch.rule,
                    "claim": mismatch.claim,
                    "got": mismatch.got,
                    "wanted": mismatch.wanted,
                }
            facts["audit_only"] = list(denial.audit_only) or None
        self.counters.denied("policy", facts["reason"])
        self._count(exchange, "challenged" if answer.status == 401 else "denied")
        self._emit(exchange, "denied", "denied", facts)

    def refused(self, exchange: Exchange, error: RegistryError, answer: Answer) -> None:
        """Tell of an operation that could not be performed, or of a credential that was not good."""
        event = _EVENTS.get(type(exchange.operation), "request")
        outcome = "denied" if error.status in {401, 403} else "failed"
        if outcome == "denied":
            event = "denied"
            self.counters.denied("registry", error.code.lower())
        self._count(exchange, outcome_of(answer.status))
        self._emit(exchange, event, outcome, {"status": answer.status, "reason": f"{error.code}: {error.message}"})

    def unbelieved(self, exchange: Exchange, refused: TokenRefused, answer: Answer) -> None:
        """Tell of a credential that was not believed."""
        self.counters.denied("credential", str(refused.reason))
        self._count(exchange, outcome_of(answer.status))
        facts = {"status": answer.status, "reason": str(refused.reason), "detail": refused.detail or None}
        self._emit(exchange, "denied", "denied", facts)

    def unreadable(self, exchange: Exchange, answer: Answer) -> None:
        """Tell of a request whose head cannot be read; nobody is known who could have asked for anything."""
        self._count(exchange, outcome_of(answer.status))

    def token(self, event: TokenEvent) -> None:
        """Tell of a request for a bearer."""
        issuer = event.caller.issuer if event.caller is not None else event.issuer
        self.counters.token(issuer or (ANONYMOUS if event.allowed else UNKNOWN), event.reason or "issued")
        line: dict[str, Any] = {
            "time": self._clock(),
            "request_id": event.request_id,
            "event": "token",
            "outcome": "allowed" if event.allowed else "denied",
            "issuer": event.caller.issuer if event.caller is not None else None,
            "subject": event.caller.subject if event.caller is not None else None,
            "policy": event.policy,
            "grant": event.grant or None,
            "repositories": list(event.repositories) or None,
            "expires_in": event.expires_in,
            "status": event.status,
            "reason": event.reason or None,
            "detail": event.detail or None,
            "client": {"address": event.address, "user_agent": event.user_agent or None},
        }
        self._audit.emit(line)

    def policy_changed(self, before: Policy, after: Policy) -> None:
        """Tell that another policy is in force."""
        line = {
            "time": self._clock(),
            "event": "policy",
            "outcome": "changed",
            "policy": after.version,
            "before": before.version,
        }
        self._audit.emit(line)

    def gone(self, exchange: Exchange) -> None:
        """Tell of a client that went away before it had sent its body."""
        self._count(exchange, "gone")
        event = _EVENTS.get(type(exchange.operation), "request")
        self._emit(exchange, event, "failed", {"reason": "the client went away"})

    def _count(self, exchange: Exchange, outcome: str) -> None:
        key = (type(exchange.operation), exchange.head.method == "HEAD", outcome)
        requests = self._requests.get(key)
        if requests is None:
            requests = self._requests[key] = self.counters.requests_of(_name(exchange), outcome)
        requests.add(time.perf_counter() - exchange.started)
        if exchange.body.received:
            self.counters.received_bytes += exchange.body.received

    def _emit(self, exchange: Exchange, event: str, outcome: str, facts: Mapping[str, Any]) -> None:
        head, caller, operation = exchange.head, exchange.who.caller, exchange.operation
        line: dict[str, Any] = {
            "time": self._clock(),
            "request_id": exchange.id,
            "event": event,
            "outcome": outcome,
            "issuer": caller.issuer if caller is not None else None,
            "subject": caller.subject if caller is not None else None,
            "policy": self._policy_version(),
            "client": {"address": head.peer, "user_agent": head.first(b"user-agent")},
        }
        if isinstance(exchange.grant, Grant):
            line["rule"] = exchange.grant.rule
            line["claims"] = dict(exchange.grant.claims) or None
            line["audit_only"] = list(exchange.grant.audit_only) or None
        line |= _named(operation)
        line |= exchange.facts
        line |= facts
        self._audit.emit(line)


def _name(exchange: Exchange) -> str:
    """Name what was asked."""
    kind = type(exchange.operation)
    return (_HEADS.get(kind) if exchange.head.method == "HEAD" else None) or OPERATION_NAMES[kind]


def _named(operation: ops.Operation | None) -> dict[str, Any]:
    """Say what the request line named."""
    named: dict[str, Any] = {}
    repository = getattr(operation, "repository", None)
    if repository is not None:
        named["repository"] = repository.name
    reference = getattr(operation, "reference", None) or getattr(operation, "digest", None)
    if isinstance(reference, Tag):
        named["tag"] = reference.name
    elif isinstance(reference, Digest):
        named["digest"] = str(reference)
    return named
