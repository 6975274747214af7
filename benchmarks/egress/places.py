"""Places: which services a registry with its bucket is made of, read from `places.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.egress.price_files import PriceError, syntax

FILE: Final = Path(__file__).with_name("places.toml")
GIB: Final = 1024**3

Billing = Literal["hours", "requests", "flat"]
_BILLINGS: Final = ("hours", "requests", "flat")
_SERVICES: Final = ("store", "store_egress", "compute", "compute_egress")
_KEYS: Final = {"name", "instance", "serves", "note", *_SERVICES}
_DELIVERIES: Final = ("redirect", "proxy")


@dataclass(frozen=True, slots=True)
class Service:
    """A price file and a region of it."""

    prices: str
    region: str


@dataclass(frozen=True, slots=True)
class Instance:
    """What one process of the registry runs on, and how that is billed."""

    billing: Billing
    vcpu: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Place:
    """A place to run. `where` is its file:line; `serves` the deliveries it makes sense for; `note` what to know before choosing it."""

    where: str
    name: str
    store: Service
    store_egress: Service
    compute: Service
    compute_egress: Service
    instance: Instance
    serves: tuple[str, ...]
    note: str = ""


def load(path: Path = FILE) -> list[Place]:
    """Read the places.

    Raises:
        PriceError: the file cannot be read, or is wrong.

    """
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise PriceError(f"{path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise PriceError(syntax(path, error)) from None
    starts = [match.start() for match in re.finditer(r"^[ \t]*\[\[[ \t]*place[ \t]*\]\]", text, re.MULTILINE)]
    tables = document.get("place", [])
    if not isinstance(tables, list) or not tables or len(tables) != len(starts) or set(document) != {"place"}:
        raise PriceError(f"{path}:1: a file of places holds [[place]] tables and nothing else")
    return [
        _place(table, f"{path}:{text.count(chr(10), 0, start) + 1}")
        for table, start in zip(tables, starts, strict=True)
    ]


def _place(table: Mapping[str, Any], where: str) -> Place:
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise PriceError(f"{where}: {unknown[0]!r} is no key of a place; keys are {', '.join(sorted(_KEYS))}")
    try:
        services = {name: Service(table[name]["prices"], table[name]["region"]) for name in _SERVICES}
        instance = table["instance"]
        billing, vcpu, memory = instance["billing"], float(instance["vcpu"]), float(instance["memory_gib"])
        name, serves, note = str(table["name"]), tuple(table.get("serves", _DELIVERIES)), str(table.get("note", ""))
    except KeyError as error:
        raise PriceError(f"{where}: {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise PriceError(f"{where}: {error}") from None
    if billing not in _BILLINGS:
        raise PriceError(f"{where}: billing {billing!r} is not one of {', '.join(_BILLINGS)}")
    if not serves or not set(serves) <= set(_DELIVERIES):
        raise PriceError(f"{where}: serves must name redirect, proxy or both")
    if vcpu <= 0 or memory <= 0:
        raise PriceError(f"{where}: an instance has more than 0 vCPU and memory")
    return Place(where, name, **services, instance=Instance(billing, vcpu, memory * GIB), serves=serves, note=note)


def elsewhere(found: list[Place], regions: Sequence[str]) -> list[Place]:
    """Move services to other regions, each given as `prices=region`.

    Raises:
        PriceError: it is not written so, or no place uses that price file.

    """
    wanted: dict[str, str] = {}
    for each in regions:
        service, equals, region = each.partition("=")
        used = {
            one.prices
            for place in found
            for one in (place.store, place.store_egress, place.compute, place.compute_egress)
        }
        if not equals or service not in used:
            raise PriceError(f"--region {each}: write PRICES=REGION, where PRICES is one of {', '.join(sorted(used))}")
        wanted[service] = region

    def moved(service: Service) -> Service:
        return Service(service.prices, wanted.get(service.prices, service.region))

    return [
        replace(
            place,
            store=moved(place.store),
            store_egress=moved(place.store_egress),
            compute=moved(place.compute),
            compute_egress=moved(place.compute_egress),
        )
        for place in found
    ]
