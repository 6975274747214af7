"""Every setting, its default, its check. Nothing else reads the environment.

A setting is an environment variable `EDGEPROXY_NAME`, or `name` in a TOML file; the environment wins, and an empty value is none. All
problems are told together. What somebody wrote is found by `given`, the values are read by `addresses` and `quantities`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, Literal

from edgeproxy import quantities
from edgeproxy.addresses import (
    FileStore,
    Listener,
    S3StoreLocation,
    StoreLocation,
    base_url,
    host_of,
    is_loopback,
    is_same_or_under,
    listener,
    store_location,
)
from edgeproxy.given import PREFIX, Given, SettingsProblem, from_environment, from_file
from edgeproxy.quantities import GIB, KIB, MIB

__all__ = [
    "FileStore",
    "S3StoreLocation",
    "Settings",
    "SettingsError",
    "SettingsProblem",
    "describe",
    "environment",
    "listening",
    "load",
]

DEFAULT_FILE: Final = Path("edgeproxy.toml")
"""Read where no other file is named, if it is there."""

DEFAULT_BIND: Final = "127.0.0.1:5000"

STORED_POLICY: Final = "store:"
"""The value of `EDGEPROXY_POLICY` for the document that is kept in the bucket."""


class SettingsError(Exception):
    """The settings are not usable; `problems` is never empty."""

    def __init__(self, problems: tuple[SettingsProblem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, checked. Only `load` makes one. Addresses are `host:port`, `[v6]:port` or `unix:/path`; sizes are bytes.

    `store_bind` is None unless the store is served here. `policy` is a path, or `store:` for the document in the bucket.
    `signing_keys_pem` is the text of the signing keys, or "": then they are in the files of `signing_keys`.
    """

    bind: str
    public_url: str
    store: StoreLocation
    store_public_endpoint: str
    store_bind: str | None
    policy: str
    signing_keys_pem: str = field(repr=False)
    signing_keys: Path
    deliver: Literal["redirect", "proxy"]
    redirect_seconds: int
    token_seconds: int
    trusted_proxies: tuple[IPv4Network | IPv6Network | Literal["unix"], ...]
    max_manifest_bytes: int
    max_blob_bytes: int | None
    upload_memory_bytes: int
    server: Literal["hypercorn", "granian"]
    workers: int
    drain_seconds: int
    audit: str
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"]
    operations_bind: str | None

    @property
    def loopback(self) -> bool:
        """Whether bind and public URL are both loopback: then, and only then, `public` may allow more than pulls."""
        return listener(self.bind).loopback and is_loopback(host_of(self.public_url))

    @property
    def bind_addresses(self) -> tuple[str, ...]:
        """List what the registry binds: both addresses of `localhost`."""
        return _addresses(self.bind)

    @property
    def store_bind_addresses(self) -> tuple[str, ...]:
        """List what a `file:` store binds; empty for others."""
        return _addresses(self.store_bind)

    @property
    def operations_bind_addresses(self) -> tuple[str, ...]:
        """List what the operations port binds; empty if there is none."""
        return _addresses(self.operations_bind)

    @property
    def may_redirect(self) -> bool:
        """Whether clients may be sent to the store: not where they would show it the token that they show us."""
        return not is_same_or_under(host_of(self.store_public_endpoint), host_of(self.public_url))

    @property
    def token_realm(self) -> str:
        """URL at which clients get a bearer."""
        return f"{self.public_url}/token"

    @property
    def token_service(self) -> str:
        """Name of this registry in challenges: host and port of the public URL."""
        return self.public_url.partition("://")[2]


def environment() -> Mapping[str, str]:
    """Give the environment of this process."""
    return os.environ


def load(environ: Mapping[str, str], file: Path | None, *, defaults: Mapping[str, str] | None = None) -> Settings:
    """Read all settings once.

    `file` is a TOML file, or None for none. `defaults` (name in lower case to text) take the place of the defaults of the table.

    Raises:
        SettingsError: with every problem there is.

    """
    problems: list[SettingsProblem] = []
    given = from_file(file, _NAMES, problems) if file is not None else {}
    given |= from_environment(environ, _NAMES, problems)
    values: dict[str, Any] = {}
    for setting in _SETTINGS:
        if (source := given.get(setting.name)) is None and (text := (defaults or {}).get(setting.name)) is not None:
            source = Given(text, "default", PREFIX + setting.name.upper())
        try:
            if source is not None:
                values[setting.name] = setting.parse(source.text)
            elif values.keys() >= set(setting.needs):
                values[setting.name] = setting.derive(values)
        except ValueError as error:
            place, name = (source.place, source.name) if source else ("not set", PREFIX + setting.name.upper())
            problems.append(SettingsProblem(place, name, str(error)))
    problems += _conflicts(values, given)
    if problems:
        raise SettingsError(tuple(problems))
    return Settings(**values)


def listening(environ: Mapping[str, str], file: Path | None) -> Listener:
    """Read where the registry listens and nothing else, for who only asks it something.

    Raises:
        SettingsError: the file or the address cannot be read.

    """
    problems: list[SettingsProblem] = []
    given = from_file(file, _NAMES, problems) if file is not None else {}
    given |= from_environment(environ, _NAMES, [])
    if problems:
        raise SettingsError(tuple(problems))
    source = given.get("bind")
    if source is None:
        return listener(DEFAULT_BIND)
    try:
        return listener(source.text)
    except ValueError as error:
        raise SettingsError((SettingsProblem(source.place, source.name, str(error)),)) from None


def describe() -> tuple[tuple[str, str, str], ...]:
    """List every setting as (environment variable, meaning, default)."""
    return tuple((PREFIX + setting.name.upper(), setting.meaning, setting.default) for setting in _SETTINGS)


def _conflicts(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[SettingsProblem]:
    """Look at what only shows between settings, as far as they could be read."""
    problems = []

    def problem(setting: str, message: str) -> None:
        source = given.get(setting)
        place, name = (source.place, source.name) if source else ("default", PREFIX + setting.upper())
        problems.append(SettingsProblem(place, name, message))

    if values.keys() >= {"public_url", "store_public_endpoint", "deliver"} and values["deliver"] != "proxy":
        public, store = host_of(values["public_url"]), host_of(values["store_public_endpoint"])
        if is_same_or_under(store, public):
            problem(
                "store_public_endpoint",
                f"has the host {store}, which is or lies under {public}, the host of EDGEPROXY_PUBLIC_URL: clients would send "
                "their tokens to the store. Give the store another host name, or set EDGEPROXY_DELIVER=proxy",
            )
    if given.keys() >= {"signing_keys", "signing_keys_pem"}:
        problem("signing_keys_pem", "holds keys while EDGEPROXY_SIGNING_KEYS names files of keys: set one of the two")
    if values.get("server") == "granian" and values.get("workers", 1) > 1:
        for setting in ("bind", "store_bind", "operations_bind"):
            if str(values.get(setting)).startswith("unix:"):
                problem(
                    setting,
                    "is a unix socket, which several workers of granian cannot share: use a port, EDGEPROXY_WORKERS=1, or "
                    "EDGEPROXY_SERVER=hypercorn",
                )
    taken: dict[str, str] = {}
    for setting in ("bind", "store_bind", "operations_bind"):
        for address in _addresses(values.get(setting)):
            if address in taken:
                problem(
                    setting, f"is {address}, where {PREFIX}{taken[address].upper()} listens already: use another port"
                )
                break
            taken[address] = setting
    return problems


def _addresses(bind: str | None) -> tuple[str, ...]:
    return () if bind is None else listener(bind).addresses(ipv6=_has_ipv6())


def _has_ipv6() -> bool:
    """Whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _public_url(values: Mapping[str, Any]) -> str:
    if not listener(values["bind"]).loopback:
        raise ValueError(
            "is required where EDGEPROXY_BIND is not a loopback address: what clients type, such as https://registry.example.com"
        )
    return base_url(f"http://{values['bind']}")


def _store_bind(values: Mapping[str, Any]) -> str | None:
    if not isinstance(values["store"], FileStore):
        return None
    bind = listener(values["bind"])
    if bind.path or bind.port == 65535:
        raise ValueError(
            "is required, as no port comes after EDGEPROXY_BIND: host:port where the file: store is served"
        )
    return str(Listener(bind.host, bind.port + 1))


def _store_public_endpoint(values: Mapping[str, Any]) -> str:
    store = values["store"]
    if isinstance(store, S3StoreLocation):
        return (
            store.endpoint
            or f"https://s3.{store.region}.amazonaws.com{'.cn' if store.region.startswith('cn-') else ''}"
        )
    public, bind = host_of(values["public_url"]), listener(values["store_bind"])
    if is_loopback(public) and bind.loopback:
        other = "127.0.0.1" if public == "localhost" else "localhost"
        return base_url(f"http://{other}:{bind.port}")
    if values["deliver"] == "proxy":
        return values["public_url"]  # type: ignore[no-any-return]
    raise ValueError(
        "is required for a file: store that not only this machine uses: the URL under which clients reach EDGEPROXY_STORE_BIND, "
        "with another host name than EDGEPROXY_PUBLIC_URL"
    )


def _signing_keys(values: Mapping[str, Any]) -> Path:
    if not values["signing_keys_pem"]:
        raise ValueError(
            "is required: a PEM file, or a directory of ES256 keys (KID.pem), which 'edgeproxy keys new' makes; or the keys "
            "themselves in EDGEPROXY_SIGNING_KEYS_PEM"
        )
    return Path()


def _log_format(_: Mapping[str, Any]) -> str:
    return "console" if sys.stderr.isatty() else "json"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A row of the table. `derive` gives the value where nothing was set, from the values of the settings in `needs`."""

    name: str
    meaning: str
    default: str
    parse: Callable[[str], Any]
    derive: Callable[[Mapping[str, Any]], Any]
    needs: tuple[str, ...] = ()


def _plain(name: str, meaning: str, default: str, parse: Callable[[str], Any]) -> _Setting:
    return _Setting(name, meaning, default, parse, lambda _: parse(default))


def _optional(name: str, meaning: str, default: str, parse: Callable[[str], Any], without: object = None) -> _Setting:
    return _Setting(name, meaning, default, parse, lambda _: without)


def _required(name: str, meaning: str, parse: Callable[[str], Any]) -> _Setting:
    def missing(_: Mapping[str, Any]) -> Any:
        raise ValueError(f"is required: {meaning}")

    return _Setting(name, meaning, "required", parse, missing)


def _bind(text: str) -> str:
    return str(listener(text))


_SETTINGS: Final = (
    _plain("bind", "where to listen: host:port, or unix:/path", DEFAULT_BIND, _bind),
    _Setting(
        "public_url",
        "what clients type; realm and audience come from it",
        "http:// and the bind address on loopback, else required",
        base_url,
        _public_url,
        ("bind",),
    ),
    _required(
        "store",
        "where the objects lie: file:///dir, s3://bucket/prefix?endpoint=https://host&region=auto, or "
        "r2://ACCOUNT_ID/bucket?jurisdiction=eu",
        store_location,
    ),
    _plain("deliver", "how blobs reach clients: redirect or proxy", "redirect", quantities.one_of("redirect", "proxy")),
    _Setting(
        "store_bind",
        "where a file: store is served",
        "the port after EDGEPROXY_BIND",
        _bind,
        _store_bind,
        ("bind", "store"),
    ),
    _Setting(
        "store_public_endpoint",
        "URL of the store as clients reach it, put into presigned URLs",
        "the store's endpoint; for file: on loopback the other of localhost and 127.0.0.1",
        base_url,
        _store_public_endpoint,
        ("store", "store_bind", "public_url", "deliver"),
    ),
    _required("policy", "the policy document: a path, or store: for the one in the bucket", str),
    _optional(
        "signing_keys_pem",
        "the ES256 keys themselves in PEM form, one after the other, the first signs: for secrets that arrive in the environment",
        "none",
        quantities.key_text,
        "",
    ),
    _Setting(
        "signing_keys",
        "a PEM file, or a directory of ES256 keys (KID.pem), which 'edgeproxy keys new' makes",
        "required without EDGEPROXY_SIGNING_KEYS_PEM",
        quantities.key_path,
        _signing_keys,
        ("signing_keys_pem",),
    ),
    _plain("redirect_seconds", "life of a presigned URL, 10 to 3600", "300", quantities.whole(10, 3600)),
    _plain("token_seconds", "life of our bearer, 60 to 3600", "900", quantities.whole(60, 3600)),
    _optional(
        "trusted_proxies",
        "CIDRs whose X-Forwarded-For is believed, and unix for who connects by a unix socket; comma-separated",
        "none",
        quantities.proxies,
        (),
    ),
    _plain("max_manifest_bytes", "largest manifest, up to 64 MiB", "4MiB", quantities.size(KIB, 64 * MIB)),
    _optional("max_blob_bytes", "largest blob", "none", quantities.size(1)),
    _plain("upload_memory_bytes", "memory for all uploads in flight", "128MiB", quantities.size(16 * MIB, 1024 * GIB)),
    _plain("server", "hypercorn or granian (extra granian)", "hypercorn", quantities.server),
    _plain("workers", "processes, which behave as replicas do, 1 to 256", "1", quantities.whole(1, 256)),
    _plain(
        "drain_seconds",
        "after SIGTERM, how long to go on serving while /readyz says no, 0 to 300",
        "0",
        quantities.whole(0, 300),
    ),
    _plain("audit", "where audit lines go: stdout, file:PATH; comma-separated", "stdout", quantities.audit),
    _plain(
        "log_level", "debug, info, warning or error", "info", quantities.one_of("debug", "info", "warning", "error")
    ),
    _Setting(
        "log_format",
        "json or console",
        "console on a terminal, else json",
        quantities.one_of("json", "console"),
        _log_format,
    ),
    _optional("operations_bind", "/healthz /readyz /metrics on a port of their own: host:port", "none", _bind),
)

_NAMES: Final = tuple(setting.name for setting in _SETTINGS)
