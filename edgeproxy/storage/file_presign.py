"""Presigned URLs of the filesystem store: signing and verifying.

A URL is `<endpoint>/<key>?expires=<unix seconds>&signature=<base64url>`. The signature is HMAC-SHA-256 over the method,
the raw path and the time, so that no other spelling of the path can stand for the key that was signed. The key of the
signature is a file in the store's directory: processes that share the directory agree without talking.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from edgeproxy.storage import PresignedURL, StoreUnavailable
from edgeproxy.storage.files import check_key
from edgeproxy.storage.object_file import opened, remove_if_there, sync_directory, write_all

KEY_FILE: Final = "url-signing-key"
_KEY_BYTES: Final = 32
_QUERY: Final = re.compile(rb"expires=([0-9]{1,12})&signature=([A-Za-z0-9_-]{43})")


class SignatureInvalid(Exception):
    """The request was not signed with this key, or not like this."""


class Expired(Exception):
    """The request was signed, for a time that is over."""


class FilePresigner:
    """A `Presigner`. `endpoint` is where clients reach the served store.

    If it has a path, the proxy that answers there has to strip it. `key` comes from `url_signing_key`; `clock` tells
    seconds since the epoch.
    """

    __slots__ = ("_clock", "_endpoint", "_key")

    def __init__(self, endpoint: str, key: bytes, clock: Callable[[], float]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._key = key
        self._clock = clock

    async def presign(self, key: str, seconds: int) -> PresignedURL:
        """See `Presigner.presign`.

        Raises:
            ValueError: it is not a key of an object.

        """
        return self.presign_now(key, seconds)

    def presign_now(self, key: str, seconds: int) -> PresignedURL:
        """See `Presigner.presign_now`; this key is always at hand."""
        path = f"/{quote(check_key(key), safe='/-_.~')}"
        expires = str(int(self._clock()) + seconds)
        signature = _signature(self._key, path.encode(), expires.encode()).decode()
        return PresignedURL(f"{self._endpoint}{path}?expires={expires}&signature={signature}", seconds)


def verified(key: bytes, path: bytes, query: bytes, now: float) -> str:
    """Give the key of the object that a GET of this raw path and query may read.

    Raises:
        SignatureInvalid: not signed with `key`, or anything was added, left out or changed.
        Expired: `now` (seconds since the epoch) is past its end.

    """
    match = _QUERY.fullmatch(query)
    if match is None:
        raise SignatureInvalid
    expires, signature = match.groups()
    if not hmac.compare_digest(signature, _signature(key, path, expires)):
        raise SignatureInvalid
    if now >= int(expires):
        raise Expired
    return unquote_to_bytes(path[1:]).decode()


def _signature(key: bytes, path: bytes, expires: bytes) -> bytes:
    signed = b"GET\n%b\n%b" % (path, expires)
    return urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")


def url_signing_key(root: Path) -> bytes:
    """Read the key of a store's URLs, or make it; of several processes that make it at once one wins and all agree.

    Raises:
        StoreUnavailable: it cannot be read or made, or is not a key.

    """
    path = root / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise StoreUnavailable(
            f"{path}: {error.strerror}: let the user that runs this own the directory and write in it"
        ) from error
    if len(key) != _KEY_BYTES:
        raise StoreUnavailable(f"{path} is not a key of {_KEY_BYTES} bytes: remove it, and the next start makes one")
    return key


def _make_key(path: Path) -> None:
    temporary = str(path.parent / "tmp" / secrets.token_hex(16))
    try:
        with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as descriptor:
            write_all(descriptor, secrets.token_bytes(_KEY_BYTES), 0)
            os.fsync(descriptor)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
        sync_directory(str(path.parent))
    finally:
        remove_if_there(temporary)
