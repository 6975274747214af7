"""The settings as everyone else gets them: frozen, checked, with what follows from them. `config` makes them."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal

from edgeproxy.addresses import StoreLocation, host_of, is_loopback, is_same_or_under, listener

STORED_POLICY: Final = "store:"
"""The value of `EDGEPROXY_POLICY` for the document that is kept in the bucket."""


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
        return addresses_of(self.bind)

    @property
    def store_bind_addresses(self) -> tuple[str, ...]:
        """List what a `file:` store binds; empty for others."""
        return addresses_of(self.store_bind)

    @property
    def operations_bind_addresses(self) -> tuple[str, ...]:
        """List what the operations port binds; empty if there is none."""
        return addresses_of(self.operations_bind)

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


def addresses_of(bind: str | None) -> tuple[str, ...]:
    """List what is bound for an address; nothing for none."""
    return () if bind is None else listener(bind).addresses(ipv6=_has_ipv6())


def _has_ipv6() -> bool:
    """Whether this machine has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
