"""Our own signing keys: ES256 keys as PEM files, one for each `kid`, several at once.

All of them verify. One signs: the one with the greatest `kid` whose file is older than three minutes. `new_key` begins a `kid`
with the time, so that the greatest is the newest; and a key that has just appeared only verifies, until every replica
has had the time to load it. If all are younger than that, the first of them signs.

To rotate: `edgeproxy keys new DIR` on what the replicas share, and `edgeproxy keys retire` for the old key once the last
bearer that it signed has expired (an hour, or the longest `token_seconds` of the policy). Retiring a key at once makes
every token that it signed invalid.

Where there are no files, as secrets arrive in the environment, the keys are one text: the first of them signs, and they
stay what they are until the process ends.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgeproxy.access.signing_key import ALGORITHM, SigningKey, SigningKeyError, read_file, read_text

__all__ = [
    "ALGORITHM",
    "YOUNG_SECONDS",
    "KeyListing",
    "SigningKey",
    "SigningKeyError",
    "SigningKeys",
    "list_keys",
    "new_key",
    "retire",
]

YOUNG_SECONDS: Final = 180.0
"""How long a new key only verifies. Replicas look for new keys much more often, but a folder may take two minutes to reach them, as
a Kubernetes Secret does."""

_PEM_NAME: Final = re.compile(r"[^.].*\.pem", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KeyListing:
    """One line of `edgeproxy keys list`."""

    kid: str
    since: float
    signs: bool


class SigningKeys:
    """The keys in force."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[object, ...] = ()
        self._keys: Mapping[str, SigningKey] = {}
        self._fixed = False

    @classmethod
    def load(cls, path: Path, clock: Callable[[], float] = time.time, *, pem: str = "") -> SigningKeys:
        """Load a PEM file, or every `KID.pem` of a directory; or instead of both the keys in `pem`, of which the first signs.

        Raises:
            SigningKeyError: there is no key, one is unreadable, not ES256, or readable by every user of the machine.

        """
        keys = cls(path, clock)
        if pem:
            keys._keys = {key.kid: key for key in read_text(pem, clock())}
            keys._fixed = True
        else:
            keys.reload()
        return keys

    def reload(self) -> bool:
        """Load the keys again if a file has changed, come or gone; True if they are others now.

        Raises:
            SigningKeyError: as for `load`; the keys in force stay as they are.

        """
        if self._fixed:
            return False
        files = _files(self._path)
        seen = tuple((file, *_mark(file)) for file in files)
        if seen == self._seen:
            return False
        keys = [read_file(file, alone=file == self._path) for file in files]
        self._keys = {key.kid: key for key in sorted(keys, key=lambda key: key.kid, reverse=True)}
        self._seen = seen
        return True

    @property
    def signing(self) -> SigningKey:
        """Give the key that signs now."""
        keys = tuple(self._keys.values())
        return keys[0] if self._fixed else _signing(keys, self._clock())

    def verifying(self, kid: str) -> SigningKey | None:
        """Find a key by its `kid`."""
        return self._keys.get(kid)

    def jwks(self) -> dict[str, Any]:
        """Give the public halves as a JWKS."""
        return {"keys": [dict(key.jwk) for key in self._keys.values()]}

    def derive(self, purpose: str) -> list[tuple[str, bytes]]:
        """Derive a secret for a purpose from each key, with its `kid`: the one to use first, then the newest first."""
        first = self.signing
        rest = [key for key in self._keys.values() if key is not first]
        return [(key.kid, key.derive(purpose)) for key in (first, *rest)]

    def listing(self) -> list[KeyListing]:
        """List the keys, newest first."""
        first = self.signing
        return [KeyListing(key.kid, key.since, key is first) for key in self._keys.values()]

    def __repr__(self) -> str:
        return f"SigningKeys({str(self._path)!r}, kids={list(self._keys)})"


def new_key(path: Path, now: float, random: Callable[[int], bytes] = os.urandom) -> str:
    """Write a new key into a directory, which is made if it is not there, and give its `kid`.

    Raises:
        SigningKeyError: `path` is a file, or cannot be written.

    """
    kid = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{random(4).hex()}"
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if path.is_file():
        raise SigningKeyError(f"{path} is a single key file, which holds no second key: move it into a directory")
    written = path / f".{kid}.new"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        # By renaming, so that no replica ever reads half a key.
        written.rename(path / f"{kid}.pem")
    except OSError as error:
        raise SigningKeyError(f"{path}: the new key cannot be written: {error.strerror}") from None
    return kid


def list_keys(path: Path, now: float) -> list[KeyListing]:
    """List the keys of a file or directory, newest first.

    Raises:
        SigningKeyError: as for `SigningKeys.load`.

    """
    return SigningKeys.load(path, lambda: now).listing()


def retire(path: Path, kid: str) -> None:
    """Remove a key; what it signed is invalid as soon as the replicas notice.

    Raises:
        SigningKeyError: there is no such key in that directory, or no other one.

    """
    names = [file.name.removesuffix(".pem") for file in _files(path) if file != path]
    if kid not in names:
        known = ", ".join(names) or "none"
        raise SigningKeyError(f"{path}: there is no key {kid!r} in this directory; there are: {known}")
    if len(names) == 1:
        raise SigningKeyError(f"{path}: {kid} is the only key; make another first with `edgeproxy keys new {path}`")
    try:
        (path / f"{kid}.pem").unlink()
    except OSError as error:
        raise SigningKeyError(f"{path / kid}.pem cannot be removed: {error.strerror}") from None


def _signing(keys: tuple[SigningKey, ...], now: float) -> SigningKey:
    grown = [key for key in keys if now - key.since >= YOUNG_SECONDS]
    return max(grown, key=lambda key: key.kid) if grown else min(keys, key=lambda key: key.kid)


def _files(path: Path) -> list[Path]:
    try:
        # Not by globbing, which takes a directory that may not be read for an empty one.
        files = sorted(file for file in path.iterdir() if _PEM_NAME.fullmatch(file.name)) if path.is_dir() else [path]
    except OSError as error:
        raise SigningKeyError(f"{path}: {error.strerror}") from None
    if not files:
        raise SigningKeyError(f"{path} holds no key (KID.pem); make one with `edgeproxy keys new {path}`")
    return files


def _mark(file: Path) -> tuple[int, int, int, int]:
    """Give what changes whenever a file does.

    Raises:
        SigningKeyError: it is not there, or every user of the machine may use it.

    """
    try:
        status = file.stat()
    except OSError as error:
        raise SigningKeyError(
            f"{file}: {error.strerror}; make a key with `edgeproxy keys new DIR` and give that directory"
        ) from None
    if status.st_mode & 0o006:
        raise SigningKeyError(
            f"{file} can be read or written by every user of this machine, who could sign tokens as anyone: "
            f"`chmod o-rw {file}` (in Kubernetes: `defaultMode: 0440` and an `fsGroup`)"
        )
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode
