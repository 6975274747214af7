"""Who the client is behind proxies: the address for the audit line, and nothing else. No decision, realm or Location looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

Trusted = IPv4Network | IPv6Network | Literal["unix"]
"""Proxies that are believed: a network, or the other end of a unix socket, which has no address."""


def client_address(peer: str, forwarded: Iterable[bytes], trusted: Sequence[Trusted]) -> str:
    """Give the address of the client; "" if it came by a unix socket and nobody who is believed says more.

    `peer` is the other end of the connection, "" for a unix socket; `forwarded` the lines of `X-Forwarded-For`, to which each proxy appends
    whom it saw. They are read from the end, as far as those who wrote them are trusted: what stands before that is anybody's word.
    """
    if not trusted:
        return peer
    chain = [item.strip() for line in forwarded for item in line.decode("latin-1").split(",")]
    client = peer
    while chain and _is_trusted(client, trusted):
        address = _address(chain.pop())
        if address is None:
            break
        client = str(address)
    return client


def _is_trusted(peer: str, trusted: Sequence[Trusted]) -> bool:
    if not peer:
        return "unix" in trusted
    address = _address(peer)
    return address is not None and any(network != "unix" and address in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; some proxies add the port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
