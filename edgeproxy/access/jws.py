"""Signed tokens in compact form (RFC 7515): strict reading, and signatures. The only module that imports PyJWT.

`read` believes nothing: it splits, decodes and parses. `is_signed_by` checks the signature over the same text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import orjson

from edgeproxy.access.decisions import Claim
from edgeproxy.access.refusals import TokenReason, TokenRefused, quoted

MAX_DEPTH: Final = 64
"""Levels of objects and lists in a header or payload; claims of real providers have four or five."""
MAX_TOKEN_BYTES: Final = 16 * 1024
"""Longest token that is looked at; an identity provider that lists two hundred groups stays below it."""
MAX_HEADER_BYTES: Final = 4 * 1024
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
"""Every algorithm that is ever verified. None is symmetric."""
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""Beyond it a single verification costs milliseconds."""

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)
_PUBLIC_MEMBERS: Final = ("kty", "crv", "n", "e", "x", "y")
_FITTING: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_JWS: Final = jwt.PyJWS(algorithms=ALGORITHMS, options={"verify_signature": True, "enforce_minimum_key_length": True})


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token as it presents itself. Nothing in it is true until its signature is checked."""

    header: Mapping[str, Claim]
    claims: Mapping[str, Claim] = field(repr=False)
    compact: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies one algorithm."""

    algorithm: str
    _jwk: jwt.PyJWK = field(repr=False, compare=False)


def read(token: str) -> Unverified:
    """Read a token without believing it.

    Raises:
        TokenRefused: `TOO_LARGE` or `MALFORMED`.

    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused(TokenReason.TOO_LARGE, f"the token is longer than {MAX_TOKEN_BYTES} characters")
    segments = _COMPACT.fullmatch(token)
    if segments is None:
        raise _malformed("it is not three segments of base64url, separated by dots")
    header, payload, _ = segments.groups()
    if len(header) > MAX_HEADER_BYTES:
        raise TokenRefused(TokenReason.TOO_LARGE, f"the token's header is longer than {MAX_HEADER_BYTES} characters")
    return Unverified(_object(header, "header"), _object(payload, "payload"), token)


def is_signed_by(token: Unverified, key: PublicKey) -> bool:
    """Check a signature, by the key's algorithm and no other.

    Raises:
        TokenRefused: `MALFORMED`, if a segment is not the one way to write its bytes (RFC 4648, 3.5).

    """
    try:
        _JWS.decode_complete(
            token.compact.encode("ascii"),
            key=key._jwk,  # noqa: SLF001 - PyJWT's type stays in this module
            algorithms=[key.algorithm],
            options={"verify_signature": True, "enforce_minimum_key_length": True},
            detached_payload=None,
        )
    except jwt.InvalidSignatureError:
        return False
    except jwt.InvalidTokenError as error:
        raise _malformed("a part of it is not canonical", type(error).__name__) from None
    return True


def public_keys(jwk: Mapping[str, Any], algorithms: tuple[str, ...]) -> dict[str, PublicKey]:
    """Make the keys that a JWK stands for, by the algorithms it may verify among those allowed; empty if it is of no use.

    Of no use are keys for encryption, shared and private ones, unknown kinds, and RSA below 2048 bits.
    """
    # Values of a foreign document: anything may stand there, also what cannot be looked up.
    fitting = _FITTING.get((str(jwk.get("kty")), str(jwk.get("crv", ""))), ())
    operations = jwk.get("key_ops")
    if jwk.get("use", "sig") != "sig" or "d" in jwk or (isinstance(operations, list) and "verify" not in operations):
        return {}
    named = "EdDSA" if jwk.get("alg") == "Ed25519" else jwk.get("alg")
    names = [name for name in fitting if name in algorithms and named in (None, name)]
    keys = {name: _public_key(jwk, name) for name in names}
    return {name: key for name, key in keys.items() if key is not None}


def _public_key(jwk: Mapping[str, Any], algorithm: str) -> PublicKey | None:
    try:
        key = jwt.PyJWK({name: jwk[name] for name in _PUBLIC_MEMBERS if name in jwk}, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    bits = getattr(key.key, "key_size", 0)
    if jwk["kty"] == "RSA" and not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return None
    return PublicKey(algorithm, key)


def signed(claims: Mapping[str, Any], private_key: Any, *, algorithm: str, header: Mapping[str, str]) -> str:
    """Sign claims. `private_key` is one of the `cryptography` library that fits the algorithm."""
    return _JWS.encode(orjson.dumps(dict(claims)), private_key, algorithm=algorithm, headers=dict(header))


def _object(segment: str, name: str) -> dict[str, Any]:
    """Decode a segment and parse the JSON object in it: UTF-8 without a BOM, finite numbers, no duplicate keys."""
    try:
        text = base64.urlsafe_b64decode(segment + "==")
        value = orjson.loads(text)
        if _is_deep(value):
            # The other parsers of this token stop at depths of their own, which differ between versions of Python.
            raise _malformed(f"its {name} nests deeper than {MAX_DEPTH} levels")
        _DUPLICATES.decode(text.decode())
    except (ValueError, RecursionError) as error:
        raise _malformed(f"its {name} is not JSON without duplicate keys", _cause(error)) from None
    if not isinstance(value, dict):
        raise _malformed(f"its {name} is not a JSON object")
    return value


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for holder in level
            if isinstance(holder, dict | list)
            for item in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return False
    return True


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKey(f"duplicate key {quoted(key)}")
        seen.add(key)


# orjson is the strict parser but keeps the last of duplicate keys in silence; this one is asked for those alone.
_DUPLICATES: Final = json.JSONDecoder(object_pairs_hook=_unique)


def _cause(error: Exception) -> str:
    # The text of a JSON error is about positions only, but quotes nothing is a promise that only our own errors make.
    return str(error) if isinstance(error, _DuplicateKey) else type(error).__name__


def _malformed(what: str, detail: str = "") -> TokenRefused:
    return TokenRefused(TokenReason.MALFORMED, f"this is not a well-formed token: {what}", detail=detail)
