"""Manifests: parsed once and strictly, kept byte for byte (image-spec "manifest" and "image-index", Docker schema 2).

Media types that we do not know are opaque: kept as they are, they name nothing and vouch for nothing.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import orjson

from edgeproxy.oci.documents import check_fields, read_document
from edgeproxy.oci.errors import DigestInvalid, ManifestInvalid
from edgeproxy.oci.names import Digest, shown

IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

MAX_MEDIA_TYPE: Final = 255

_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"
_RESTRICTED_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE: Final = re.compile(rf"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}", re.ASCII)
_PARAMETERS: Final = re.compile(r"[ \t]*(?:;[ -~]*)?")

_DOCUMENT_FIELDS: Final = frozenset(
    (
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "fsLayers",
    )
)
_DESCRIPTOR_FIELDS: Final = frozenset({"mediaType", "digest", "size", "data"})


class Kind(StrEnum):
    """What a manifest is."""

    IMAGE = "image"
    INDEX = "index"
    OPAQUE = "opaque"


_KINDS: Final = {IMAGE: Kind.IMAGE, DOCKER_IMAGE: Kind.IMAGE, INDEX: Kind.INDEX, DOCKER_LIST: Kind.INDEX}

# Clients decide by the fields they find (CVE-2021-41190), so a manifest has no field of another kind, not even an empty one.
_FOREIGN: Final = {Kind.IMAGE: ("manifests", "fsLayers"), Kind.INDEX: ("config", "layers", "fsLayers")}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content (image-spec "descriptor"); `size` in bytes."""

    media_type: str
    digest: Digest
    size: int

    @property
    def distributable(self) -> bool:
        """Say whether the content has to be in the registry; layers under a licence may lie elsewhere."""
        media_type = self.media_type.lower()
        return "nondistributable" not in media_type and "foreign.diff" not in media_type


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the registry reads of a manifest. An image has `config` and `layers`, an index `children`, an opaque one nothing.

    `media_type` is as it was sent, without parameters. `subject` need not be in the repository.
    """

    media_type: str
    kind: Kind
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def required_blobs(self) -> tuple[Descriptor, ...]:
        """Give the blobs that must be in the repository, each digest once."""
        named = self.layers if self.config is None else (self.config, *self.layers)
        return _each_once(named)

    @property
    def required_children(self) -> tuple[Descriptor, ...]:
        """Give the entries of an index that must be in the repository, each digest once.

        Each may be a manifest or a blob: indexes that BuildKit writes for its cache list layers.
        """
        return _each_once(self.children)

    @property
    def vouched(self) -> tuple[Descriptor, ...]:
        """Give the blobs of which a push has checked that the repository holds them, in this size.

        Entries of an index are not among them, although they are checked as well: they may be manifests, which are not served as blobs.
        """
        return self.required_blobs

    def referrer_descriptor(self, digest: Digest, size: int) -> bytes:
        """Print the descriptor of this manifest for the list of its subject's referrers, as JSON (spec "Listing Referrers").

        An image without artifact type has that of its config; an index without one has none. Annotations are copied as they are.
        """
        descriptor: dict[str, Any] = {"mediaType": self.media_type, "digest": str(digest), "size": size}
        if self.artifact_type is not None:
            descriptor["artifactType"] = self.artifact_type
        elif self.config is not None:
            descriptor["artifactType"] = self.config.media_type
        if self.annotations:
            descriptor["annotations"] = self.annotations
        return orjson.dumps(descriptor)


def parse_manifest(content: bytes, content_type: str | None) -> Manifest:
    """Read a manifest that arrives, or was stored, with a `Content-Type`. Its size is limited by whoever read the bytes.

    An empty config without `artifactType` is let in although image-spec asks for one: clients that packed artifacts before 1.1 wrote
    none, the conformance suite does not ask for a refusal, and readers fall back on the config's media type.

    Raises:
        ManifestInvalid: it is not what its media type says; the message names the field.

    """
    if not content:
        raise ManifestInvalid("the manifest is empty; send it as the body of the request")
    stated = (content_type or "").partition(";")[0].strip(" \t") or _stated_inside(content)
    if stated.lower().startswith(_SCHEMA_1):
        raise ManifestInvalid(
            "Docker schema 1 manifests are not accepted; push with a client that writes schema 2 or OCI manifests"
        )
    kind = _KINDS.get(stated.lower(), Kind.OPAQUE)
    if kind is Kind.OPAQUE:
        return _opaque(content, stated)
    document = read_document(content)
    check_fields(document, _DOCUMENT_FIELDS, "the manifest")
    inside = _text(document, "mediaType")
    if inside is not None and inside.lower() != stated.lower():
        raise ManifestInvalid(
            f"Content-Type is {shown(stated)}, but the manifest's mediaType is {shown(inside)}; they must be equal"
        )
    return _known(document, stated, kind)


def _stated_inside(content: bytes) -> str:
    media_type = _text(read_document(content), "mediaType")
    if media_type is None or media_type.lower() not in _KINDS:
        raise ManifestInvalid("the request has no Content-Type; send the media type of the manifest")
    return media_type


def _opaque(content: bytes, media_type: str) -> Manifest:
    if len(media_type) > MAX_MEDIA_TYPE or _MEDIA_TYPE.fullmatch(media_type) is None:
        raise ManifestInvalid(f"Content-Type {shown(media_type)} is not a media type; send that of the manifest")
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return Manifest(media_type, Kind.OPAQUE)
    inside = document.get("mediaType") if isinstance(document, dict) else None
    if isinstance(inside, str) and inside.lower() in _KINDS:
        # Kept as opaque, its parts would not be checked, and clients that believe the manifest itself would still read it as one.
        raise ManifestInvalid(
            f"Content-Type is {shown(media_type)}, but the manifest's mediaType is {shown(inside)}; they must be equal"
        )
    return Manifest(media_type, Kind.OPAQUE)


def _known(document: Mapping[str, Any], media_type: str, kind: Kind) -> Manifest:
    version = document.get("schemaVersion")
    if type(version) is not int or version != 2:
        raise ManifestInvalid("schemaVersion of the manifest is not the number 2")
    for name in _FOREIGN[kind]:
        if name in document:
            raise ManifestInvalid(
                f"the manifest's media type says {kind}, which has no field '{name}'; it must be one thing only"
            )
    is_image = kind is Kind.IMAGE
    subject = document.get("subject")
    manifest = Manifest(
        media_type,
        kind,
        _descriptor(document.get("config"), "config") if is_image else None,
        _descriptors(document, "layers") if is_image else (),
        () if is_image else _descriptors(document, "manifests"),
        None if subject is None else _descriptor(subject, "subject"),
        _text(document, "artifactType"),
        _annotations(document),
    )
    _check_sizes(manifest)
    return manifest


def _check_sizes(manifest: Manifest) -> None:
    sizes: dict[Digest, int] = {}
    for part in (manifest.config, *manifest.layers, *manifest.children, manifest.subject):
        if part is not None and sizes.setdefault(part.digest, part.size) != part.size:
            raise ManifestInvalid(
                f"the manifest names {part.digest} with two sizes, {sizes[part.digest]} and {part.size}"
            )


def _each_once(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    return tuple({item.digest: item for item in descriptors if item.distributable}.values())


def _descriptors(document: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    items = document.get(name, "")
    if items is None:
        # Go writes a list that was never filled as null.
        return ()
    if not isinstance(items, list):
        raise ManifestInvalid(f"{name} of the manifest is not a list of descriptors")
    return tuple(_descriptor(item, f"{name}[{index}]") for index, item in enumerate(items))


def _descriptor(item: Any, where: str) -> Descriptor:
    if not isinstance(item, dict):
        raise ManifestInvalid(f"{where} of the manifest is not a descriptor: an object with mediaType, digest and size")
    check_fields(item, _DESCRIPTOR_FIELDS, f"{where} of the manifest")
    media_type, text, size = item.get("mediaType"), item.get("digest"), item.get("size")
    if not isinstance(media_type, str) or not _is_media_type(media_type):
        raise ManifestInvalid(f"{where}.mediaType of the manifest is not a media type")
    if not isinstance(text, str):
        raise ManifestInvalid(f"{where}.digest of the manifest is not a digest")
    if type(size) is not int or not 0 <= size < 2**63:
        raise ManifestInvalid(f"{where}.size of the manifest is not a number of bytes")
    try:
        digest = Digest.parse(text)
    except DigestInvalid as error:
        raise ManifestInvalid(f"{where}.digest of the manifest: {error.message}") from None
    _check_data(item.get("data"), digest, size, where)
    return Descriptor(media_type, digest, size)


def _is_media_type(text: str) -> bool:
    """Accept parameters as well: nobody but the client reads the media type of a part."""
    name = _MEDIA_TYPE.match(text)
    return name is not None and len(text) <= MAX_MEDIA_TYPE and _PARAMETERS.fullmatch(text, name.end()) is not None


def _check_data(data: Any, digest: Digest, size: int, where: str) -> None:
    """Check content that is embedded in its descriptor."""
    if data is None:
        return
    try:
        content = base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except ValueError:
        content = None
    if content is None or len(content) != size or Digest.of(content, digest.algorithm) != digest:
        raise ManifestInvalid(
            f"{where}.data of the manifest is not the base64 of the content that its digest and size name"
        )


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise ManifestInvalid(f"{name} of the manifest is not a string")
    return value or None


def _annotations(document: Mapping[str, Any]) -> Mapping[str, str]:
    value = document.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ManifestInvalid("annotations of the manifest are not strings by name")
    return value
