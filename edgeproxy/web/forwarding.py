"""Who the client is behind proxies: the address for the audit line, and nothing else. No decision, realm or Location looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded: Iterable[bytes], trusted: Sequence[Network]) -> str:
    """Give the address of the client.

    `peer` is the other end of the connection, "" for a unix socket (its peer is on this machine and counts as trusted where anybody is);
    `forwarded` the lines of `X-Forwarded-For`, to which each proxy appends whom it saw. They are read from the end, as far as those who
    wrote them are trusted: what stands before that is anybody's word.
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


def _is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    address = _address(peer)
    return not peer or (address is not None and any(address in network for network in trusted))


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
