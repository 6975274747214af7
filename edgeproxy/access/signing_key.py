"""One signing key of our own: an ES256 key, read from a PEM file or from the text of several. Knows nothing of which one signs."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edgeproxy.access import jws
from edgeproxy.access.jws import PublicKey

ALGORITHM: Final = "ES256"
_KID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_FILE_BYTES: Final = 64 * 1024
_PEM: Final = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----\r?\n.*?-----END \1-----", re.DOTALL)


class SigningKeyError(Exception):
    """Signing keys that cannot be used; the text names the file and what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `since` (seconds since the epoch) is when its file was written."""

    kid: str
    since: float
    public: PublicKey
    jwk: Mapping[str, str]
    _private: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """Sign claims as a token of this type, in compact form."""
        return jws.signed(claims, self._private, algorithm=ALGORITHM, header={"typ": typ, "kid": self.kid})

    def derive(self, purpose: str) -> bytes:
        """Derive 32 secret bytes for one purpose (HKDF, RFC 5869), from which neither the key nor others can be found."""
        secret = self._private.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(hashes.SHA256(), 32, salt=None, info=b"edgeproxy " + purpose.encode()).derive(secret)


def read_file(file: Path, *, alone: bool) -> SigningKey:
    """Read the key of a file; one that lies alone is named after its own thumbprint.

    Raises:
        SigningKeyError: it is unreadable, or no ES256 key.

    """
    try:
        with file.open("rb") as opened:
            pem = opened.read(_MAX_FILE_BYTES)
            since = os.fstat(opened.fileno()).st_mtime
    except OSError as error:
        raise SigningKeyError(f"{file}: {error.strerror}") from None
    # A lone file keeps its name when its key is replaced, so there the key itself gives the name.
    return _key(pem, str(file), since, None if alone else file.name.removesuffix(".pem"))


def read_text(pem: str, now: float) -> list[SigningKey]:
    """Read keys that stand one after the other, as they are at `now`.

    Raises:
        SigningKeyError: one is no ES256 key, or there is none.

    """
    parts = [found[0] for found in _PEM.finditer(pem)]
    keys = [_key(part.encode(), f"key {number} of {len(parts)}", now, None) for number, part in enumerate(parts, 1)]
    if not keys or len({key.kid for key in keys}) != len(keys):
        raise SigningKeyError(
            "it must hold whole keys, each once, from `-----BEGIN PRIVATE KEY-----` to `-----END PRIVATE KEY-----`; "
            "make one with `edgeproxy keys new DIR`"
        )
    return keys


def _key(pem: bytes, file: str, since: float, kid: str | None) -> SigningKey:
    """Take one key, which is named after its own thumbprint where nothing else names it."""
    try:
        private = load_pem_private_key(pem, password=None)
    except TypeError:
        raise SigningKeyError(
            f"{file} is encrypted, and nobody is there to type a password: store it decrypted"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyError(f"{file} is not a private key in PEM form; make one with `edgeproxy keys new`") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SigningKeyError(f"{file} is not an ES256 key (EC, P-256); make one with `edgeproxy keys new`")
    jwk = _jwk(private)
    kid = kid if kid is not None else _thumbprint(jwk)
    if _KID.fullmatch(kid) is None:
        raise SigningKeyError(
            f"{file}: the name of the file is the key's `kid`: at most 64 letters, digits, '.', '_' and '-' before '.pem'"
        )
    public = jws.public_keys(jwk, (ALGORITHM,))[ALGORITHM]
    return SigningKey(kid, since, public, {**jwk, "kid": kid, "use": "sig", "alg": ALGORITHM}, private)


def _jwk(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _encoded(numbers.x), "y": _encoded(numbers.y)}


def _encoded(number: int) -> str:
    return _text(number.to_bytes(32, "big"))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _thumbprint(jwk: Mapping[str, str]) -> str:
    """Give the thumbprint of a key (RFC 7638)."""
    return "k" + _text(hashlib.sha256(orjson.dumps(dict(jwk), option=orjson.OPT_SORT_KEYS)).digest())
