"""What a key of the bucket is for: the layout of `storage.keys`, read backwards. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edgeproxy.oci.errors import RegistryError
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.storage import keys


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """The bytes of a blob."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class LinkPlace:
    """A repository holds a blob."""

    repository: Repository
    digest: Digest


@dataclass(frozen=True, slots=True)
class ManifestPlace:
    """A manifest of a repository."""

    repository: Repository
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagPlace:
    """A tag of a repository."""

    repository: Repository
    tag: Tag


@dataclass(frozen=True, slots=True)
class TaggedPlace:
    """A hint that a tag points at a digest."""

    repository: Repository
    digest: Digest
    tag: Tag


@dataclass(frozen=True, slots=True)
class ReferrerPlace:
    """One referrer of a subject."""

    repository: Repository
    subject: Digest
    digest: Digest


@dataclass(frozen=True, slots=True)
class CatalogPlace:
    """A repository exists."""

    repository: Repository


@dataclass(frozen=True, slots=True)
class NotePlace:
    """The time of the last deletion of a blob, or history: nothing that could be broken."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No key of the layout."""


Place = (
    BlobPlace | LinkPlace | ManifestPlace | TagPlace | TaggedPlace | ReferrerPlace | CatalogPlace | NotePlace | Unknown
)


def place_of(key: str) -> Place:
    """Say what a key below `blobs/`, `catalog/` or `repos/` is for."""
    try:
        if key.startswith(keys.BLOBS):
            return BlobPlace(_digest(key.removeprefix(keys.BLOBS), "/"))
        if key.startswith(keys.CATALOG):
            repository = keys.cataloged(key)
            return CatalogPlace(repository) if keys.catalog(repository) == key else Unknown()
        name, _, rest = key.removeprefix(keys.REPOSITORIES).partition("/_")
        return _in_repository(Repository.parse(name), rest)
    except RegistryError:
        return Unknown()


def _in_repository(repository: Repository, rest: str) -> Place:
    kind, _, path = rest.partition("/")
    match kind:
        case "blobs":
            return LinkPlace(repository, _digest(path, "/"))
        case "manifests":
            return ManifestPlace(repository, _digest(path, "/"))
        case "tags":
            return TagPlace(repository, Tag.parse(path))
        case "tagged":
            digest, _, tag = path.rpartition("/")
            return TaggedPlace(repository, _digest(digest, "/"), Tag.parse(tag))
        case "referrers":
            subject, _, referrer = path.rpartition("/")
            return ReferrerPlace(repository, _digest(subject, "/"), _digest(referrer, "-"))
        case "deletions" if not path:
            return NotePlace()
        case "history" if path:
            return NotePlace()
    return Unknown()


def _digest(text: str, separator: str) -> Digest:
    algorithm, _, hexadecimal = text.partition(separator)
    return Digest.parse(f"{algorithm}:{hexadecimal}")
