"""One request of a workload, whatever file it was read from. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs, unquote

SHOWN_PLACES: Final = 5
"""How many malformed lines are shown; the rest is only counted."""

_PATH: Final = re.compile(r"/?v2/(?P<repository>.+)/(?P<what>blobs|manifests)/(?P<rest>.+)")


class Kind(StrEnum):
    """What a request does, as far as its price goes.

    A look is a HEAD, or a GET that was answered with 304. An upload in parts is a PATCH before the PUT that ends it. A miss asks for
    what is not there, as clients do before they push.
    """

    PULL_MANIFEST = "pull manifest"
    PULL_BLOB = "pull blob"
    LOOK_MANIFEST = "look at manifest"
    LOOK_BLOB = "look at blob"
    PUSH_MANIFEST = "push manifest"
    PUSH_BLOB = "push blob"
    UPLOAD = "upload in parts"
    MISS_MANIFEST = "miss manifest"
    MISS_BLOB = "miss blob"
    OTHER = "other"

    @property
    def is_replayed(self) -> bool:
        """Tell what a replay sends again: pulls, looks and pushes. The rest stands for no content of its own."""
        return self in _REPLAYED

    @property
    def is_pull(self) -> bool:
        """Tell what brings content."""
        return self in {Kind.PULL_MANIFEST, Kind.PULL_BLOB}

    @property
    def is_manifest(self) -> bool:
        """Tell manifests from blobs."""
        return self in {Kind.PULL_MANIFEST, Kind.LOOK_MANIFEST, Kind.PUSH_MANIFEST}

    @property
    def is_push(self) -> bool:
        """Tell pushes from pulls and looks."""
        return self in {Kind.PUSH_MANIFEST, Kind.PUSH_BLOB}


_REPLAYED: Final = {
    Kind.PULL_MANIFEST, Kind.PULL_BLOB, Kind.LOOK_MANIFEST, Kind.LOOK_BLOB, Kind.PUSH_MANIFEST, Kind.PUSH_BLOB,
}  # fmt: skip
_KINDS: Final = {
    "manifests": (Kind.PULL_MANIFEST, Kind.LOOK_MANIFEST, Kind.PUSH_MANIFEST, Kind.MISS_MANIFEST),
    "blobs": (Kind.PULL_BLOB, Kind.LOOK_BLOB, Kind.PUSH_BLOB, Kind.MISS_BLOB),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `time` in seconds since the epoch; `reference` is a tag or a digest, or the id that an anonymised trace has for it.

    `size` is the number of bytes of the manifest or blob that was asked for (pulls) or sent (pushes); None where the source does not
    know, as an access log does not know what a redirect led to. `redirected` tells that the answer was a redirect.
    """

    time: float
    kind: Kind
    repository: str
    reference: str
    size: int | None
    client: str
    redirected: bool = False


class Malformed(ValueError):
    """A line is not what its file should hold. The message says why."""


class Refused(ValueError):
    """A workload cannot be read at all, or not under `--strict`. The message says where and what to do."""


@dataclass(slots=True)
class Reading:
    """What became of the lines of a workload: requests taken, entries that are none of ours, entries that are malformed."""

    strict: bool = False
    taken: int = 0
    passed_over: int = 0
    malformed: int = 0
    places: list[str] = field(default_factory=list)

    def refuse(self, place: str, why: str) -> None:
        """Note a malformed entry at `place` (file:line).

        Raises:
            Refused: the reading is strict.

        """
        if self.strict:
            raise Refused(f"{place}: {why}")
        self.malformed += 1
        if len(self.places) < SHOWN_PLACES:
            self.places.append(f"{place}: {why}")

    def told(self) -> Iterator[str]:
        """Say what was skipped, one sentence a line."""
        for place in self.places:
            yield f"skipped {place}"
        if self.malformed > len(self.places):
            yield f"skipped {self.malformed - len(self.places)} more malformed entries; --strict refuses them"


def classify(method: str, target: str, status: int) -> tuple[Kind, str, str] | None:
    """Tell the kind of a request, its repository and reference, from its line; None for other services.

    The PUT that ends an upload is the push of a blob; the POST that opens it carries no price of its own.
    """
    path, _, query = target.partition("?")
    match = _PATH.fullmatch(path)
    if match is None or (status >= 400 and status != 404):
        return (Kind.OTHER, "", "") if path.lstrip("/").startswith(("v2", "token")) else None
    repository, rest = match["repository"], unquote(match["rest"])
    if rest.startswith("uploads/"):
        return _upload(method, status, repository, rest.removeprefix("uploads/").strip("/"), query)
    pull, look, push, miss = _KINDS[match["what"]]
    if status == 404:
        return (miss if method in {"GET", "HEAD"} else Kind.OTHER), repository, rest
    kind = look if status == 304 else {"GET": pull, "HEAD": look, "PUT": push}.get(method, Kind.OTHER)
    return kind, repository, rest


def _upload(method: str, status: int, repository: str, session: str, query: str) -> tuple[Kind, str, str]:
    if status == 404 or method not in {"PUT", "PATCH"}:
        return Kind.OTHER, repository, ""
    if method == "PATCH":
        return Kind.UPLOAD, repository, ""
    return Kind.PUSH_BLOB, repository, parse_qs(query).get("digest", [session])[0]
