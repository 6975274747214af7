"""The keys of issuers: found by discovery, by URL or in the policy, and cached for every request of this process.

- One fetch at a time for an issuer, whoever asks; a caller who leaves does not end it.
- Keys are read again after ten minutes in the background, after an hour before they are used.
- Keys stay for a day while their issuer cannot be reached.
- An unknown `kid` is looked up at once, and then at most every 30 seconds for an issuer, however many there are.
- Nothing is fetched but what the policy names and what the discovery document of such an issuer names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from edgeproxy.access.fields import is_loopback
from edgeproxy.access.jws import PublicKey, public_keys
from edgeproxy.access.refusals import TokenReason, TokenRefused, quoted
from edgeproxy.access.rules import Discovery, InlineKeys, Issuer

REFRESH_SECONDS: Final = 600.0
HARD_REFRESH_SECONDS: Final = 3600.0
STALE_SECONDS: Final = 86400.0
COOL_DOWN_SECONDS: Final = 30.0
"""Between two lookups of unknown keys of an issuer, and between two attempts to reach one whose keys we have."""
RETRY_SECONDS: Final = 5.0
"""Between two attempts to reach an issuer whose keys we do not have."""
MAX_KEYS: Final = 100
MAX_TRIED_KEYS: Final = 10
"""How many keys a token without `kid` is tried with."""

Fetch = Callable[[str, bytes | None], Awaitable[bytes]]
"""Fetches a document: URL, and the PEM of the only authority to trust there if it is not the system's. Raises FetchFailed."""

_log = logging.getLogger(__name__)


class FetchFailed(Exception):
    """A document of an issuer cannot be had; the text says why, without the URL."""


class ServerCertificateExpired(FetchFailed):
    """The certificate that the issuer's server shows has ended. `url` is for finding out when."""

    def __init__(self, url: str) -> None:
        super().__init__("the certificate of the issuer's server has expired")
        self.url = url


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One key of an issuer, and the algorithms it may verify."""

    kid: str | None
    by_algorithm: Mapping[str, PublicKey]


@dataclass(slots=True)
class _Known:
    """What is known of an issuer's keys. Times are seconds since the epoch."""

    issuer: Issuer
    keys: tuple[IssuerKey, ...] = ()
    loaded: float = -inf
    tried: float = -inf
    looked_up: float = -inf
    problem: str = ""
    flight: asyncio.Task[None] | None = field(default=None, repr=False)

    def fitting(self, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        found = [
            key.by_algorithm[algorithm] for key in self.keys if algorithm in key.by_algorithm and kid in (None, key.kid)
        ]
        return tuple(found[:MAX_TRIED_KEYS])


class IssuerKeys:
    """Finds the key that a token names, at the issuer that the policy names."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._issuers: dict[str, _Known] = {}

    async def find(self, issuer: Issuer, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """Find the keys that may have signed a token: never none, and several only where it names no `kid`.

        Raises:
            TokenRefused: `KEYS_UNAVAILABLE`, `KEYS_EXPIRED` or `KEY`.

        """
        _check_not_after(issuer, self._clock())
        known = self._known(issuer)
        just_loaded = await self._ensure(known)
        found = known.fitting(kid, algorithm)
        if not found and not just_loaded and not isinstance(issuer.keys, InlineKeys):
            await self._look_up(known)
            found = known.fitting(kid, algorithm)
        if not found:
            raise TokenRefused(
                TokenReason.KEY,
                "the token is signed with a key that its issuer does not publish for this; get a fresh token",
                detail=f"issuer {issuer.name} has no key {quoted(kid)} for {algorithm}",
            )
        return found

    async def warm(self, issuers: Iterable[Issuer]) -> None:
        """Load the keys of issuers that were not loaded yet, so that the first caller does not wait; never fails."""
        waiting = [self._known(issuer) for issuer in issuers]
        flights = [self._flight(known) for known in waiting if known.loaded == -inf]
        await asyncio.gather(*(asyncio.shield(flight) for flight in flights))

    def problems(self) -> dict[str, str]:
        """Tell, by name, which issuers' keys could not be read when that was last tried, and why."""
        return {name: known.problem for name, known in self._issuers.items() if known.problem}

    def read_times(self) -> dict[str, float]:
        """Tell, by name, when issuers' keys were last read, in seconds since the epoch; those that stand in the policy are never read."""
        return {name: known.loaded for name, known in self._issuers.items() if abs(known.loaded) != inf}

    async def close(self) -> None:
        """End what is under way."""
        flights = [known.flight for known in self._issuers.values() if known.flight is not None]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _known(self, issuer: Issuer) -> _Known:
        """Give what is known of an issuer; nothing, if the policy now describes it otherwise."""
        known = self._issuers.get(issuer.name)
        if known is None or (known.issuer is not issuer and known.issuer != issuer):
            known = self._issuers[issuer.name] = _Known(issuer)
            if isinstance(issuer.keys, InlineKeys):
                known.loaded = inf
                try:
                    known.keys = _usable(issuer.keys.jwks, issuer)
                except FetchFailed as error:
                    known.problem = str(error)
        return known

    async def _ensure(self, known: _Known) -> bool:
        """Have keys that are not too old; True if they were read just now. Does not wait where those at hand will do.

        Raises:
            TokenRefused: there are none.

        """
        now = self._clock()
        age = now - known.loaded
        if age < REFRESH_SECONDS:
            return False
        pause = COOL_DOWN_SECONDS if known.keys else RETRY_SECONDS
        if known.flight is not None or now - known.tried >= pause:
            flight = self._flight(known)
            # While an issuer is down, one caller in thirty seconds would wait for nothing.
            if age >= STALE_SECONDS or (age >= HARD_REFRESH_SECONDS and not known.problem):
                await asyncio.shield(flight)
        if self._clock() - known.loaded >= STALE_SECONDS:
            raise TokenRefused(
                TokenReason.KEYS_UNAVAILABLE,
                "the keys of the token's issuer cannot be read at the moment; try again in a minute",
                detail=f"issuer {known.issuer.name}: {known.problem}",
            )
        return known.loaded >= now

    async def _look_up(self, known: _Known) -> None:
        """Read the keys again because one is not among them. Only this starts the cool-down, so that a first load does not."""
        if known.flight is None:
            now = self._clock()
            if now - known.looked_up < COOL_DOWN_SECONDS:
                return
            known.looked_up = now
        await asyncio.shield(self._flight(known))

    def _flight(self, known: _Known) -> asyncio.Task[None]:
        if known.flight is None:
            known.tried = self._clock()
            known.flight = asyncio.create_task(self._load(known))
        return known.flight

    async def _load(self, known: _Known) -> None:
        issuer = known.issuer
        try:
            document = _document(await self._fetch(await self._keys_url(issuer), issuer.ca))
            known.keys, known.loaded, known.problem = _usable(document, issuer), self._clock(), ""
        except FetchFailed as error:
            if known.problem != str(error):
                _log.warning("the keys of issuer %s cannot be read: %s", issuer.name, error)
            known.problem = str(error)
        finally:
            known.flight = None

    async def _keys_url(self, issuer: Issuer) -> str:
        if not isinstance(issuer.keys, Discovery):
            assert not isinstance(issuer.keys, InlineKeys)
            return issuer.keys.url
        url = issuer.url.removesuffix("/") + "/.well-known/openid-configuration"
        document = _document(await self._fetch(url, issuer.ca))
        if document.get("issuer") != issuer.url:
            raise FetchFailed(
                f"the discovery document is that of {quoted(document.get('issuer'))}, "
                "which must be the issuer's URL in the policy, character for character"
            )
        return _checked_url(document.get("jwks_uri"), issuer)


def _check_not_after(issuer: Issuer, now: float) -> None:
    if issuer.keys.not_after is not None and now >= issuer.keys.not_after:
        raise TokenRefused(
            TokenReason.KEYS_EXPIRED,
            "this registry's copy of the issuer's keys has expired; tell its operator",
            detail=f"issuer {issuer.name}: `keys.not_after` has passed: renew the keys in the policy",
        )


def _document(content: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise FetchFailed("the answer is not JSON") from None
    if not isinstance(document, dict):
        raise FetchFailed("the answer is not a JSON object")
    return document


def _checked_url(url: object, issuer: Issuer) -> str:
    """Check where a discovery document sends us: https, or http on loopback for an issuer that is there itself.

    Raises:
        FetchFailed: it is neither.

    """
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host = parts.hostname
    except ValueError:
        raise FetchFailed("the discovery document's jwks_uri is not a URL") from None
    if parts.scheme == "https" and host:
        return parts.geturl()
    if parts.scheme == "http" and is_loopback(host) and is_loopback(urlsplit(issuer.url).hostname):
        return parts.geturl()
    raise FetchFailed("the discovery document's jwks_uri is not an https URL")


def _usable(document: Mapping[str, Any], issuer: Issuer) -> tuple[IssuerKey, ...]:
    """Pick the keys of a JWKS that may verify tokens of this issuer; others are passed over.

    Raises:
        FetchFailed: it is no JWKS, or a very long one.

    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise FetchFailed("the answer is not a JWKS: it has no list of keys")
    if len(entries) > MAX_KEYS:
        raise FetchFailed(f"the JWKS has {len(entries)} keys; at most {MAX_KEYS} are read")
    keys = []
    for entry in entries:
        usable = public_keys(entry, issuer.algorithms) if isinstance(entry, dict) else {}
        if usable:
            kid = entry.get("kid")
            keys.append(IssuerKey(kid if isinstance(kid, str) else None, usable))
    return tuple(keys)
