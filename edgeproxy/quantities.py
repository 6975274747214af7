"""The words and numbers that settings hold: sizes, seconds, choices, lists. Pure: text in, value out.

Every function made or given here reads one text and raises `ValueError` with a text that says what would be right.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from pathlib import Path
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

_UNITS: Final = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_BYTES: Final = re.compile(r"([0-9]{1,15}) ?(|KiB|MiB|GiB)", re.ASCII)
_WHOLE: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Make the reader of a whole number."""

    def read(text: str) -> int:
        if _WHOLE.fullmatch(text) is None or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def size(least: int, most: int | None = None) -> Callable[[str], int | None]:
    """Make the reader of a number of bytes, such as `4194304` or `4MiB`; without `most`, `none` is a value too: no limit."""

    def read(text: str) -> int | None:
        if text == "none" and most is None:
            return None
        match = _BYTES.fullmatch(text)
        value = int(match[1]) * _UNITS[match[2]] if match else -1
        if value < least or (most is not None and value > most):
            limits = "or none" if most is None else f"from {least} to {most}"
            raise ValueError(
                f"must be a number of bytes {limits}, such as 67108864 or 64MiB (KiB, MiB and GiB are known)"
            )
        return value

    return read


def one_of(*values: str) -> Callable[[str], str]:
    """Make the reader of a choice."""

    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be {', '.join(values[:-1])} or {values[-1]}")
        return text

    return read


def server(text: str) -> str:
    """Read the name of a server, which has to be installed."""
    name = one_of("hypercorn", "granian")(text)
    if name == "granian" and importlib.util.find_spec("granian") is None:
        raise ValueError("is granian, which is not installed: pip install 'edgeproxy[granian]', or use hypercorn")
    return name


def proxies(text: str) -> tuple[IPv4Network | IPv6Network | Literal["unix"], ...]:
    """Read CIDRs, and the word `unix` for the other end of a unix socket, separated by commas."""
    found: list[IPv4Network | IPv6Network | Literal["unix"]] = []
    for item in (item.strip() for item in text.split(",")):
        if item == "unix":
            found.append("unix")
            continue
        try:
            found.append(_unmapped(ip_network(item)))
        except ValueError:
            raise ValueError(f"must be CIDRs such as 10.0.0.0/8, or unix, separated by commas{_meant(item)}") from None
    return tuple(found)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Read `::ffff:10.0.0.0/104` as 10.0.0.0/8, as its addresses are taken for what they stand for."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def _meant(item: str) -> str:
    try:
        return f"; did you mean {ip_interface(item).network}?"
    except ValueError:
        return ""


def audit(text: str) -> str:
    """Read where audit lines go, and print it in its one form."""
    places = [place.strip() for place in text.split(",")]
    for place in places:
        if place != "stdout" and (not place.startswith("file:") or place == "file:"):
            raise ValueError("must be stdout or file:PATH, or several of them separated by commas")
    if len(set(places)) != len(places):
        raise ValueError("names one place twice")
    return ",".join(places)


def key_path(text: str) -> Path:
    """Read the path of a key file or directory; somebody who pasted the key itself is not shown it."""
    if "\n" in text or "-----BEGIN" in text:
        raise ValueError("must be the path of a PEM file or of a directory of them, not the key itself")
    return Path(text)


def key_text(text: str) -> str:
    """Read private keys in PEM form; whoever wrote something else is not shown it."""
    if not text.startswith("-----BEGIN") or "PRIVATE KEY-----" not in text:
        raise ValueError("must be private keys in PEM form, each from its BEGIN line to its END line, not a path")
    return text
