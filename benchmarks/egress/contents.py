"""The bytes behind an anonymised trace: for each blob and manifest, content of the recorded size, the same in every run. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

import orjson

PIECE: Final = 256 * 1024
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_BLOCK: Final = Random(0).randbytes(PIECE)

Part = tuple[str, int]
"""Digest and size of a blob."""


def pieces(reference: str, size: int) -> Iterator[bytes]:
    """Give the bytes of a blob, which are never held whole. What differs between blobs is at the head of each piece."""
    seed = hashlib.sha256(reference.encode()).digest()
    for begin in range(0, size, PIECE):
        head = seed + begin.to_bytes(8)
        yield (head + _BLOCK[len(head) :])[: min(PIECE, size - begin)]


def digest_of(reference: str, size: int) -> str:
    """Hash the bytes of a blob."""
    digest = hashlib.sha256()
    for piece in pieces(reference, size):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def digest_of_bytes(content: bytes) -> str:
    """Hash bytes that are at hand."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def media_type(parts: Sequence[Part]) -> str:
    """Say what a manifest with these blobs is: an image, or an index of nothing where the trace tells of no blob."""
    return MANIFEST if parts else INDEX


def manifest(name: str, parts: Sequence[Part], size: int, revision: int) -> bytes:
    """Make a manifest that names these blobs, filled up to `size` by an annotation; larger where the names need more.

    Another `revision` is another manifest of the same size.
    """
    described = [{"mediaType": _LAYER, "digest": digest, "size": length} for digest, length in parts]
    named = {"config": described[0] | {"mediaType": _CONFIG}, "layers": described[1:]} if parts else {"manifests": []}
    document = {"schemaVersion": 2, "mediaType": media_type(parts), **named}
    about = {"name": name, "revision": f"{revision:012d}", "filling": ""}
    short = size - len(orjson.dumps(document | {"annotations": about}))
    return orjson.dumps(document | {"annotations": about | {"filling": "x" * max(0, short)}})
