"""Every endpoint of the distribution specification as one frozen value, made by one parse of the request line.

`requests.parse` makes them. Access, storage and response all read that value; nobody splits a path a second time. Each operation knows
the access it needs. Implements spec v1.1.1 and what `main` adds (tag parameters, upload cancel, digest-algorithm); end-N names the
spec's table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from edgeproxy.oci.names import Digest, Reference, Repository, Tag


class Action(StrEnum):
    """What a policy can allow."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CATALOG = "catalog"


class Access(NamedTuple):
    """One thing a caller wants to do to one repository."""

    repository: Repository
    action: Action


@dataclass(frozen=True, slots=True)
class Ping:
    """end-1: GET, HEAD /v2/."""


@dataclass(frozen=True, slots=True)
class GetBlob:
    """end-2: GET, HEAD /v2/<name>/blobs/<digest>."""

    action: ClassVar[Action] = Action.PULL
    repository: Repository
    digest: Digest
    head: bool


@dataclass(frozen=True, slots=True)
class DeleteBlob:
    """end-10: DELETE /v2/<name>/blobs/<digest>."""

    action: ClassVar[Action] = Action.DELETE
    repository: Repository
    digest: Digest


@dataclass(frozen=True, slots=True)
class StartUpload:
    """end-4a, end-4c: POST /v2/<name>/blobs/uploads/[?digest-algorithm=<algorithm>]."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    algorithm: str | None


@dataclass(frozen=True, slots=True)
class UploadWhole:
    """end-4b: POST /v2/<name>/blobs/uploads/?digest=<digest> with the blob as body."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    digest: Digest


@dataclass(frozen=True, slots=True)
class MountBlob:
    """end-11: POST /v2/<name>/blobs/uploads/?mount=<digest>[&from=<source>].

    A mount that is not possible or not allowed becomes an upload, so `source` is None also where `from` is no repository
    name.
    """

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    digest: Digest
    source: Repository | None


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """end-13: GET /v2/<name>/blobs/uploads/<session>."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    session: str


@dataclass(frozen=True, slots=True)
class AppendUpload:
    """end-5: PATCH /v2/<name>/blobs/uploads/<session>."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    session: str


@dataclass(frozen=True, slots=True)
class FinishUpload:
    """end-6: PUT /v2/<name>/blobs/uploads/<session>?digest=<digest>, with or without a body."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    session: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class CancelUpload:
    """end-14: DELETE /v2/<name>/blobs/uploads/<session>."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    session: str


@dataclass(frozen=True, slots=True)
class GetManifest:
    """end-3: GET, HEAD /v2/<name>/manifests/<reference>."""

    action: ClassVar[Action] = Action.PULL
    repository: Repository
    reference: Reference
    head: bool


@dataclass(frozen=True, slots=True)
class PutManifest:
    """end-7a, end-7b: PUT /v2/<name>/manifests/<reference>[?tag=<tag>...]; `tags` only with a digest."""

    action: ClassVar[Action] = Action.PUSH
    repository: Repository
    reference: Reference
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class DeleteManifest:
    """end-9: DELETE /v2/<name>/manifests/<reference>."""

    action: ClassVar[Action] = Action.DELETE
    repository: Repository
    reference: Reference


@dataclass(frozen=True, slots=True)
class ListTags:
    """end-8a, end-8b: GET /v2/<name>/tags/list[?n=<n>&last=<last>].

    `n` None: as many as a page holds; `last` "": from the start.
    """

    action: ClassVar[Action] = Action.PULL
    repository: Repository
    n: int | None
    last: str


@dataclass(frozen=True, slots=True)
class ListReferrers:
    """end-12: GET /v2/<name>/referrers/<digest>[?artifactType=<type>].

    `last` is our own page marker, `<alg>-<hex>` or "".
    """

    action: ClassVar[Action] = Action.PULL
    repository: Repository
    digest: Digest
    artifact_type: str | None
    last: str


@dataclass(frozen=True, slots=True)
class ListCatalog:
    """GET /v2/_catalog[?n=<n>&last=<last>]; shows only what the caller may pull, so it needs no access of its own."""

    n: int | None
    last: str


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """GET /v2/_edgeproxy/whoami."""


@dataclass(frozen=True, slots=True)
class CanI:
    """GET /v2/_edgeproxy/can-i?repository=&action=."""

    repository: Repository
    action: Action


BlobOperation = GetBlob | DeleteBlob
UploadOperation = StartUpload | UploadWhole | MountBlob | UploadStatus | AppendUpload | FinishUpload | CancelUpload
ManifestOperation = GetManifest | PutManifest | DeleteManifest
RepositoryOperation = BlobOperation | UploadOperation | ManifestOperation | ListTags | ListReferrers
Operation = Ping | ListCatalog | WhoAmI | CanI | RepositoryOperation
"""Everything `parse` answers with."""
