"""What fields of the policy document may hold: URLs, dates, durations, names, globs. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictInt

from edgeproxy.access.forms import Text
from edgeproxy.oci.operations import Action

Algorithm = Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "PS256", "ES256", "ES384", "EdDSA")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_URL: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


def is_loopback(host: str | None) -> bool:
    """Tell whether a host of a URL can only be this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_url(url: str) -> str:
    """Refuse what is no plain http(s) URL; https is a question of where it leads, asked in `Issuer`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    if _URL.fullmatch(url) is None or parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError("expected a URL such as https://login.example.com/realms/staff, at most 255 characters")
    if "@" in parts.netloc or "?" in url or "#" in url or "\\" in url:
        raise ValueError("a URL here has no user name, query or fragment")
    return url


def _check_moment(text: str) -> str:
    moment(text)
    return text


def moment(text: str) -> float:
    """Read a date (00:00 UTC on that day) or an RFC 3339 time with its offset, as seconds since the epoch.

    Raises:
        ValueError: it is neither.

    """
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z") from None
    if parsed.tzinfo is None:
        raise ValueError("the time needs its offset: end it with Z for UTC")
    return parsed.timestamp()


def seconds(duration: int | str) -> int:
    """Read a duration that the models took: seconds, or a number with s, m, h or d."""
    return duration if isinstance(duration, int) else int(duration[:-1]) * _UNITS[duration[-1]]


def check_not_boolean(value: object) -> object:
    """Refuse true and false where a number is meant: a literal compares with `==`, in which Python finds 1 and True alike."""
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004  pydantic reports a ValueError, not a TypeError
    return value


def check_boolean(value: object) -> object:
    """Refuse everything but true and false, 1 and 0 as well."""
    if not isinstance(value, bool):
        raise ValueError("expected true")  # noqa: TRY004
    return value


def check_session(duration: int | str) -> int | str:
    """Refuse a duration that no bearer lives."""
    if not 60 <= seconds(duration) <= 86400:
        raise ValueError("expected 60 seconds to 1 day")
    return duration


Duration = (
    Annotated[StrictInt, Field(ge=1, le=10**9)] | Annotated[str, Field(strict=True, pattern=r"^[1-9][0-9]{0,8}[smhd]$")]
)
Moment = Annotated[
    Text, AfterValidator(_check_moment), Field(json_schema_extra={"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"})
]
Url = Annotated[Text, AfterValidator(_check_url), Field(json_schema_extra={"pattern": "^https?://"})]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?$")]
Globs = Annotated[tuple[Annotated[Text, Field(max_length=300)], ...], Field(min_length=1)]
Actions = Annotated[tuple[Action, ...], Field(min_length=1)]
