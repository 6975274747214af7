"""The addresses that settings hold: where we listen, what clients type, where objects lie. Pure: text in, value out.

Every function that reads one raises `ValueError` with a text that says what would be right; it never repeats what may hide a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*", re.ASCII)
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)
_ACCOUNT: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_JURISDICTIONS: Final = {"default": "", "eu": "eu.", "fedramp": "fedramp.", "us": "us."}


@dataclass(frozen=True, slots=True)
class Listener:
    """Where a server listens: a port of a host, or (`path`) a unix socket, whose host is "" and port 0."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else _joined(self.host, self.port)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it; not claimed of a unix socket, as a proxy usually stands before it."""
        return not self.path and is_loopback(self.host)

    def addresses(self, *, ipv6: bool) -> tuple[str, ...]:
        """List the addresses to bind: both of `localhost` where the machine has IPv6, as clients may try either first."""
        if self.host != "localhost":
            return (str(self),)
        names = ("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",)
        return tuple(_joined(name, self.port) for name in names)


@dataclass(frozen=True, slots=True)
class FileStore:
    """Objects in a directory."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class S3StoreLocation:
    """Objects in a bucket of S3 or R2, under `prefix` if it is not "". `endpoint` None: AWS itself, in `region`."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str

    def __str__(self) -> str:
        place = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"{place} ({self.region}) at {self.endpoint}" if self.endpoint else f"{place} ({self.region})"


StoreLocation = FileStore | S3StoreLocation


def listener(text: str) -> Listener:
    """Read `host:port`, `[v6]:port` or `unix:/path`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError("a unix socket is an absolute path: unix:/run/edgeproxy.sock")
        return Listener("", 0, path)
    name, colon, port = text.rpartition(":")
    if not colon or _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65535:
        raise ValueError(f"{_shown(text)} is not an address: use host:port with a port of 1 to 65535, or unix:/path")
    return Listener(_host(name.removeprefix("[").removesuffix("]"), bracketed=name.startswith("[")), int(port))


def base_url(text: str) -> str:
    """Read `http(s)://host[:port]` and print it in its one form: lower case, ASCII, no default port, no slash at the end."""
    parts = _split(text)
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("must begin with https:// or http://")
    if parts.path not in {"", "/"} or "?" in text or "#" in text:
        raise ValueError("must be scheme, host and port alone, with no path or query: https://registry.example.com")
    name, port = _authority(parts)
    default = _DEFAULT_PORTS[parts.scheme]
    return f"{parts.scheme}://{_joined(name, None if port == default else port)}"


def host_of(url: str) -> str:
    """Give the host of a URL that `base_url` printed."""
    return urlsplit(url).hostname or ""


def port_of(url: str) -> int:
    """Give the port of a URL that `base_url` printed."""
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def store_location(text: str) -> StoreLocation:
    """Read `file:///dir`, `s3://bucket/prefix?endpoint=&region=` or `r2://ACCOUNT_ID/bucket/prefix?jurisdiction=`."""
    scheme = text.partition("://")[0]
    match scheme:
        case "file":
            return _file(text)
        case "s3":
            return _s3(text)
        case "r2":
            return _r2(text)
    raise ValueError("must be file:///dir, s3://bucket/prefix?endpoint=https://host or r2://ACCOUNT_ID/bucket")


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its name or address."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_same_or_under(host: str, parent: str) -> bool:
    """Say whether a client that is logged in to `parent` may take `host` for the same site: equal to it, or a name below it."""
    address = _address(host)
    if address is not None or _address(parent) is not None:
        return address == _address(parent)
    host, parent = host.rstrip("."), parent.rstrip(".")
    return host == parent or host.endswith(f".{parent}")


def _file(text: str) -> FileStore:
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ValueError("a directory is written with three slashes and its absolute path: file:///var/lib/edgeproxy")
    return FileStore(Path(unquote(parts.path)))


def _s3(text: str) -> S3StoreLocation:
    parts = _split(text)
    query = _query(parts, {"endpoint", "region"})
    endpoint = query.get("endpoint")
    region = query.get("region", "auto")
    if endpoint is None and region == "auto":
        raise ValueError("AWS needs ?region=..., any other store ?endpoint=https://host")
    if _REGION.fullmatch(region) is None:
        raise ValueError("region must be a name such as auto or eu-central-1")
    if endpoint is not None:
        try:
            endpoint = base_url(endpoint)
        except ValueError as error:
            raise ValueError(f"endpoint {error}") from None
    return S3StoreLocation(_bucket(parts.netloc), _prefix(parts.path), endpoint, region)


def _r2(text: str) -> S3StoreLocation:
    parts = _split(text)
    jurisdiction = _query(parts, {"jurisdiction"}).get("jurisdiction", "default")
    if _ACCOUNT.fullmatch(parts.netloc) is None:
        raise ValueError(
            "the account id after r2:// is 32 hexadecimal digits; the R2 overview of the dashboard shows it"
        )
    if jurisdiction not in _JURISDICTIONS:
        raise ValueError(f"jurisdiction must be one of {', '.join(_JURISDICTIONS)}")
    bucket, _, prefix = parts.path.removeprefix("/").partition("/")
    endpoint = f"https://{parts.netloc}.{_JURISDICTIONS[jurisdiction]}r2.cloudflarestorage.com"
    return S3StoreLocation(_bucket(bucket), _prefix(prefix), endpoint, "auto")


def _query(parts: SplitResult, known: set[str]) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    if not known.issuperset(names) or len(set(names)) != len(names):
        raise ValueError(f"after '?' only {' and '.join(sorted(known))} may stand, each once; {_NO_CREDENTIALS}")
    return dict(pairs)


def _bucket(text: str) -> str:
    if _BUCKET.fullmatch(text) is None:
        raise ValueError("a bucket's name is 3 to 63 lower-case letters, digits, dots and dashes")
    return text


def _prefix(text: str) -> str:
    prefix = unquote(text).strip("/")
    if prefix and (_PREFIX.fullmatch(prefix) is None or {".", ".."} & set(prefix.split("/"))):
        raise ValueError("a prefix is letters, digits and !_.*'()- in components separated by single slashes")
    return prefix


_NO_CREDENTIALS: Final = "credentials do not belong into a URL, they come from AWS_ACCESS_KEY_ID and its like"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not a URL") from None
    if "@" in parts.netloc:
        raise ValueError(_NO_CREDENTIALS)
    if any(character <= " " or character == "\x7f" for character in text):
        raise ValueError("must not contain spaces or control characters")
    return parts


def _authority(parts: SplitResult) -> tuple[str, int | None]:
    name, colon, port = parts.netloc.rpartition(":")
    if not colon or parts.netloc.endswith("]"):
        name, port = parts.netloc, ""
    elif _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65535:
        raise ValueError("the port must be 1 to 65535")
    return _host(name.removeprefix("[").removesuffix("]"), bracketed=name.startswith("[")), int(port) if port else None


def _host(text: str, *, bracketed: bool) -> str:
    address = _address(text)
    if bracketed or isinstance(address, IPv6Address):
        if not bracketed or not isinstance(address, IPv6Address):
            raise ValueError(
                f"{_shown(text)} is not valid: only an IPv6 address, and always, stands in brackets: [::1]"
            )
        return str(address)
    try:
        name = text.encode("idna").decode().lower()
    except UnicodeError:
        name = ""
    if _HOST.fullmatch(name) is None or (address is None and name.rstrip(".").rpartition(".")[2].isdigit()):
        raise ValueError(f"{_shown(text)} is not a host name or address")
    return name


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _joined(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
