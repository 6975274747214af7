"""What a process counts: plain numbers, added to where something happens and read when /metrics is asked for.

This is on the way of every request, so that an event costs a dictionary look-up and an addition. Nothing here knows a repository, a
subject, a tag or a digest; every label has few values, and docs/metrics.md lists them all. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Final

OPERATIONS: Final = (
    "ping",
    "get_blob",
    "head_blob",
    "delete_blob",
    "start_upload",
    "upload_whole",
    "mount_blob",
    "upload_status",
    "append_upload",
    "finish_upload",
    "cancel_upload",
    "get_manifest",
    "head_manifest",
    "put_manifest",
    "delete_manifest",
    "list_tags",
    "list_referrers",
    "list_catalog",
    "who_am_i",
    "can_i",
    "token",
    "well_known",
    "probe",
    "other",
)
"""What a request may be. `other` is what no operation was found in: a malformed request, or a path that nothing answers."""

OUTCOMES: Final = ("ok", "redirected", "challenged", "denied", "refused", "failed", "gone")
"""How a request may end: done; sent to the store; 401; denied by policy; another 4xx; 5xx; the client left before its body ended."""

REQUEST_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 45.0)
STORE_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0)
"""Upper bounds of the histograms' buckets, in seconds."""

STORE_CLASSES: Final[Mapping[str, str]] = {
    "HeadObject": "B",
    "GetObject": "B",
    "HeadBucket": "B",
    "PutObject": "A",
    "CopyObject": "A",
    "ListObjectsV2": "A",
    "CreateMultipartUpload": "A",
    "UploadPart": "A",
    "UploadPartCopy": "A",
    "CompleteMultipartUpload": "A",
    "DeleteObject": "free",
    "AbortMultipartUpload": "free",
}
"""The calls that are made of a store, and what R2 bills each as."""

STORE_OUTCOMES: Final = ("ok", "absent", "condition", "slow_down", "cancelled", "failed")
"""How an attempt at a store call may end: done; no such object; the condition of a write did not hold; the store asks for fewer
requests; we gave it up; anything else."""

RETRY: Final = "retry"
"""Told in place of an outcome: not an attempt, but that another one follows a failed one."""

ANONYMOUS: Final = "(anonymous)"
UNKNOWN: Final = "(unknown)"
FOLDED: Final = "(others)"
"""Stand for an issuer's name, which never has parentheses: nobody signed in; none that the policy lists; beyond `MAX_ISSUERS`."""
MAX_ISSUERS: Final = 200

_FOLDED_OUTCOMES: Final[Mapping[str, str]] = {
    "ok": "ok",
    "cancelled": "cancelled",
    **dict.fromkeys(("NoSuchKey", "NotFound", "404"), "absent"),
    **dict.fromkeys(("PreconditionFailed", "412", "ConditionalRequestConflict"), "condition"),
    **dict.fromkeys(("429", "TooManyRequests", "SlowDown", "RequestLimitExceeded", "Throttling"), "slow_down"),
}


class Histogram:
    """How often something took how long. `counts` has one entry for each bound and one for what lies beyond; `total` is in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def number(self) -> int:
        """Say how many there were."""
        return sum(self.counts)

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class Counters:
    """Everything that is counted in one process since it started."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], Histogram] = {}
        self.delegated_bytes = 0
        self.proxied_bytes = 0
        self.received_bytes = 0
        self.denials: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.tokens: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.store_calls: dict[tuple[str, str], Histogram] = {}
        self.store_retries: defaultdict[str, int] = defaultdict(int)
        self._issuers: set[str] = {ANONYMOUS, UNKNOWN}

    def requests_of(self, operation: str, outcome: str) -> Histogram:
        """Give what counts the requests of one kind. Who answers many keeps it, and adds to it the time of each."""
        found = self.requests.get((operation, outcome))
        if found is None:
            found = self.requests[operation, outcome] = Histogram(REQUEST_BOUNDS)
        return found

    async def proxied(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Count the bytes of a blob that pass through us; a piece counts once the client has taken it."""
        async for piece in pieces:
            yield piece
            self.proxied_bytes += len(piece)

    def denied(self, kind: str, reason: str) -> None:
        """Count a denial: by `policy`, of a `credential`, or by the `registry` itself."""
        self.denials[kind, reason] += 1

    def token(self, issuer: str, outcome: str) -> None:
        """Count a request for a bearer. `issuer` is a name of the policy, or `ANONYMOUS` or `UNKNOWN`."""
        if issuer not in self._issuers:
            if len(self._issuers) < MAX_ISSUERS:
                self._issuers.add(issuer)
            else:
                issuer = FOLDED
        self.tokens[issuer, outcome] += 1

    def store_call(self, operation: str, seconds: float, outcome: str) -> None:
        """Count one attempt at a store call; an observer as the stores take them. Unknown codes of stores fold into `failed`."""
        if operation not in STORE_CLASSES:
            return
        if outcome == RETRY:
            self.store_retries[operation] += 1
            return
        kind = (operation, _FOLDED_OUTCOMES.get(outcome, "failed"))
        found = self.store_calls.get(kind)
        if found is None:
            found = self.store_calls[kind] = Histogram(STORE_BOUNDS)
        found.add(seconds)


def outcome_of(status: int) -> str:
    """Name the outcome of a request by the status of its answer, where nothing more is known."""
    if status < 300:
        return "ok"
    if status < 400:
        return "redirected"
    if status == 401:
        return "challenged"
    return "failed" if status >= 500 else "denied" if status == 403 else "refused"
