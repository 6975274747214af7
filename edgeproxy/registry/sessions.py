"""The token in the Location of an upload: what makes uploads stateless.

It names the session and where it stood when the token was made, signed together with the repository and the caller, so it opens nothing
for anyone else and nowhere else. The truth lies in the bucket (`uploads/<uuid>/<sequence>`); a token may be behind it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from edgeproxy.oci.errors import BlobUploadUnknown
from edgeproxy.oci.names import HEX_LENGTH, Repository

SESSION_SECONDS: Final = 24 * 3600
_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """An upload session as one of its tokens tells it: `sequence` PATCHes so far, `offset` bytes; hashed with `algorithm`."""

    upload: str
    sequence: int
    offset: int
    algorithm: str
    expires: int


class SessionTokens:
    """Prints sessions as tokens and reads them back."""

    def __init__(self, keys: Callable[[], Sequence[bytes]], clock: Callable[[], float]) -> None:
        """Take the secret keys, newest first: the first signs, all verify."""
        self._keys = keys
        self._clock = clock

    def issue(self, session: Session, repository: Repository, caller: str) -> str:
        """Print a session as one URL-safe token without padding, for this repository and caller."""
        content = orjson.dumps([session.upload, session.sequence, session.offset, session.algorithm, session.expires])
        return _encode(_mac(self._keys()[0], content, repository, caller) + content)

    def read(self, token: str, repository: Repository, caller: str) -> Session:
        """Read a token.

        Raises:
            BlobUploadUnknown: it was not issued here for this repository and caller, was altered, or has expired.

        """
        try:
            decoded = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise _unknown() from None
        mac, content = decoded[:_MAC_BYTES], decoded[_MAC_BYTES:]
        # Checked against each key and in full: neither how many keys there are nor which one fits shows in the time.
        genuine = [hmac.compare_digest(mac, _mac(key, content, repository, caller)) for key in self._keys()]
        # Base64 has several spellings of the same bytes; only ours is a token.
        if not any(genuine) or _encode(decoded) != token:
            raise _unknown()
        upload, sequence, offset, algorithm, expires = orjson.loads(content)
        if expires <= self._clock():
            raise BlobUploadUnknown("this upload session has expired; start the upload again")
        assert algorithm in HEX_LENGTH
        return Session(upload, sequence, offset, algorithm, expires)


def _mac(key: bytes, content: bytes, repository: Repository, caller: str) -> bytes:
    message = b"\0".join((b"upload session", repository.name.encode(), caller.encode(), content))
    return hmac.new(key, message, hashlib.sha256).digest()[:_MAC_BYTES]


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unknown() -> BlobUploadUnknown:
    return BlobUploadUnknown("no such upload session in this repository for this caller; start the upload again")
