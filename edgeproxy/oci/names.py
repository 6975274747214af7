"""Names of the distribution specification: repositories, tags, digests.

Each is a frozen value built by parsing, so a function that takes a `Repository` need not check it again.
Grammar: distribution-spec "Pulling manifests" and image-spec "Digests".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from edgeproxy.oci.errors import DigestInvalid, ManifestInvalid, NameInvalid

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_LOWER_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)

MAX_REPOSITORY_LENGTH: Final = 255
"""Longest repository name. The specification names no limit; many clients cap host and name at 255 together."""

HEX_LENGTH: Final = {"sha256": 64, "sha512": 128}
"""Registered algorithms that edgeproxy verifies, with the length of their lower-case hex."""


class Hash(Protocol):
    """A running hash, as `hashlib` makes them."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Give the lower-case hex of what was taken in."""

    def digest(self) -> bytes:
        """Give the raw bytes of the hash."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository name such as `acme/app`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Read a name.

        Raises:
            NameInvalid: the text is outside the grammar or longer than 255 characters.

        """
        if len(text) > MAX_REPOSITORY_LENGTH:
            raise NameInvalid(f"repository name is longer than {MAX_REPOSITORY_LENGTH} characters")
        if _REPOSITORY.fullmatch(text) is None:
            raise NameInvalid(
                f"repository name {shown(text)} is not valid: components of lower-case letters and digits, "
                "joined by '.', '_', '__' or dashes, separated by '/'"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag such as `latest` or `v1.2`."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Tag:
        """Read a tag.

        Raises:
            ManifestInvalid: the text is outside the grammar.

        """
        if _TAG.fullmatch(text) is None:
            raise ManifestInvalid(
                f"tag {shown(text)} is not valid: at most 128 letters, digits, '_', '.' and '-', "
                "not beginning with '.' or '-'"
            )
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Digest:
    """A content digest: a registered algorithm and its lower-case hex."""

    algorithm: str
    hex: str
    # Printed on every request of the hot path, so it is made once.
    _text: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "_text", f"{self.algorithm}:{self.hex}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read a digest such as `sha256:<64 hex>`.

        Raises:
            DigestInvalid: the algorithm is not one of `HEX_LENGTH`, or the hex has another length, case or alphabet.

        """
        algorithm, colon, hexadecimal = text.partition(":")
        length = HEX_LENGTH.get(algorithm)
        if not colon or length is None:
            raise DigestInvalid(
                f"digest {shown(text)} is not valid: expected 'sha256:' and 64, or 'sha512:' and 128, "
                "lower-case hexadecimal digits"
            )
        if len(hexadecimal) != length or _LOWER_HEX.fullmatch(hexadecimal) is None:
            raise DigestInvalid(
                f"digest {shown(text)} is not valid: '{algorithm}:' is followed by exactly {length} "
                "lower-case hexadecimal digits"
            )
        return cls(algorithm, hexadecimal)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of content that is at hand."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return self._text


Reference = Tag | Digest
"""What a manifest is asked for by."""


@lru_cache(maxsize=4096)
def parse_reference(text: str) -> Reference:
    """Read a reference: a digest if it contains a colon (no tag can), a tag otherwise.

    Raises:
        DigestInvalid: it contains a colon and is no digest.
        ManifestInvalid: it contains no colon and is no tag.

    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def shown(text: str) -> str:
    """Quote what a caller sent, shortened and in printable ASCII, for a message to that caller."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
