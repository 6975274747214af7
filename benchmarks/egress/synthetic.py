"""A synthetic registry workload in the JSON of the IBM traces. The same parameters and seed give the same trace, byte for byte.

Repositories share base images; each has a few tags. Clients pull tags: a manifest, then the layers they do not have yet. Popularity of tags
follows Zipf's law. Some requests only look whether a tag has moved; some are builds that push a new image under a tag.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from random import Random
from typing import Any, Final, Literal

import orjson

Profile = Literal["hub", "ibm"]
MIB: Final = 1024**2
CAP: Final = 2 * 1024**3
CLIENT_CACHE: Final = 2_000
"""Layers that one client remembers."""


ABOUT: Final = {
    "seed": "the same seed gives the same trace",
    "profile": "sizes of layers: as in a company's registry (ibm), or as on Docker Hub (hub)",
    "repositories": "number of repositories",
    "tags": "tags in each repository",
    "layers": "median number of layers of an image",
    "bases": "base images that others share layers with",
    "shared": "part of the images that stand on one of the bases",
    "zipf": "exponent of the popularity of tags; 0: all alike",
    "clients": "number of clients",
    "warm": "part of the pulls by a client that keeps its layers",
    "events": "pulls, looks and pushes in all",
    "looks": "part of the events that only ask whether a tag has moved",
    "pushes": "part of the events that push a new image under a tag",
    "hours": "about how long it lasts",
    "shrink": "sizes of layers are divided by this",
    "begin": "when it begins, in seconds since 1970",
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the workload is like. README.md, "The synthetic workload", tells where the defaults come from.

    `warm` is the part of pulls by a client that keeps its layers; `looks` and `pushes` are parts of all events; `shrink` divides sizes.
    """

    seed: int = 1
    profile: Profile = "ibm"
    repositories: int = 50
    tags: int = 4
    layers: int = 8
    bases: int = 10
    shared: float = 0.5
    zipf: float = 0.9
    clients: int = 40
    warm: float = 0.5
    events: int = 1000
    looks: float = 0.15
    pushes: float = 0.03
    hours: float = 24.0
    shrink: int = 1
    begin: float = field(default_factory=lambda: datetime(2026, 11, 2, tzinfo=UTC).timestamp())

    def __post_init__(self) -> None:
        for name in ("repositories", "tags", "layers", "bases", "clients", "events", "shrink"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be 1 or more")
        for name in ("shared", "warm", "looks", "pushes"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must be between 0 and 1")
        if self.looks + self.pushes > 1 or self.hours <= 0 or self.zipf < 0:
            raise ValueError("--looks and --pushes are together at most 1, --hours is more than 0, --zipf is 0 or more")


@dataclass(frozen=True, slots=True)
class _Image:
    layers: tuple[str, ...]
    manifest_bytes: int


class Workload:
    """A registry's content and its traffic."""

    def __init__(self, parameters: Parameters) -> None:
        self._given = parameters
        self._random = Random(parameters.seed)
        self._sizes: dict[str, int] = {}
        self._made = 0
        self._bases = [self._layers(max(1, parameters.layers // 2)) for _ in range(parameters.bases)]
        names = [f"{self._hex(8)}/{self._hex(8)}" for _ in range(parameters.repositories)]
        self._tags = [(name, f"t{self._hex(6)}") for name in names for _ in range(parameters.tags)]
        self._images = {tag: self._image() for tag in self._tags}
        self._random.shuffle(self._tags)
        weights = accumulate(1 / rank**parameters.zipf for rank in range(1, len(self._tags) + 1))
        self._popularity = list(weights)
        self._clients = [f"{self._hex(8)}" for _ in range(parameters.clients)]
        self._caches: dict[str, OrderedDict[str, None]] = {client: OrderedDict() for client in self._clients}

    def requests(self) -> Iterator[dict[str, Any]]:
        """Give the requests in the order of their times, as objects of the trace."""
        waiting: list[tuple[float, int, dict[str, Any]]] = []
        number = 0
        for time in self._times():
            while waiting and waiting[0][0] <= time:
                yield heapq.heappop(waiting)[2]
            for entry in self._event(time):
                number += 1
                heapq.heappush(waiting, (entry.pop("_time"), number, entry))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _times(self) -> Iterator[float]:
        """Give times of events, twice as dense at noon as at midnight, without holding them."""
        mean = self._given.hours * 3600 / self._given.events
        time = self._given.begin
        for _ in range(self._given.events):
            day = (time % 86_400) / 86_400
            time += self._random.expovariate(1 / mean) / (1 - math.cos(2 * math.pi * day) / 3)
            yield time

    def _event(self, time: float) -> Iterator[dict[str, Any]]:
        tag = self._tags[bisect(self._popularity, self._random.random() * self._popularity[-1])]
        client, chance = self._random.choice(self._clients), self._random.random()
        if chance < self._given.pushes:
            yield from self._push(time, tag, client)
        elif chance < self._given.pushes + self._given.looks:
            yield self._entry(time, client, "HEAD", f"{tag[0]}/manifests/{tag[1]}", 0)
        else:
            yield from self._pull(time, tag, client)

    def _pull(self, time: float, tag: tuple[str, str], client: str) -> Iterator[dict[str, Any]]:
        image = self._images[tag]
        yield self._entry(time, client, "GET", f"{tag[0]}/manifests/{tag[1]}", image.manifest_bytes)
        cache = self._caches[client]
        keeps = self._random.random() < self._given.warm
        for place, layer in enumerate(image.layers):
            if keeps and layer in cache:
                cache.move_to_end(layer)
                continue
            # Clients ask for three layers at a time.
            yield self._entry(
                time + 0.05 * (1 + place // 3), client, "GET", f"{tag[0]}/blobs/{layer}", self._sizes[layer]
            )
            cache[layer] = None
            if len(cache) > CLIENT_CACHE:
                cache.popitem(last=False)

    def _push(self, time: float, tag: tuple[str, str], client: str) -> Iterator[dict[str, Any]]:
        """A build: the image keeps its lower layers and gets new ones on top, and a new configuration."""
        old = self._images[tag]
        kept = old.layers[1 : 1 + len(old.layers) // 2]
        fresh = self._layers(max(1, len(old.layers) - 1 - len(kept)))
        config = self._blob(self._random.randint(2_000, 15_000))
        for place, layer in enumerate((config, *fresh)):
            target = f"{tag[0]}/blobs/uploads/{self._hex(32)}?digest={layer}"
            yield self._entry(time + 0.02 * place, client, "PUT", target, self._sizes[layer], 201)
        image = _Image((config, *kept, *fresh), self._manifest_bytes(1 + len(kept) + len(fresh)))
        self._images[tag] = image
        moment = time + 0.02 * (1 + len(fresh))
        yield self._entry(moment, client, "PUT", f"{tag[0]}/manifests/{tag[1]}", image.manifest_bytes, 201)

    def _entry(self, time: float, client: str, method: str, path: str, size: int, status: int = 200) -> dict[str, Any]:
        stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return {
            "_time": time,
            "host": "7dd1b8a7",
            "http.request.duration": round(0.002 + size / 100e6, 6),
            "http.request.method": method,
            "http.request.remoteaddr": client,
            "http.request.uri": f"v2/{path}",
            "http.request.useragent": "synthetic/1",
            "http.response.status": status,
            "http.response.written": size,
            "id": self._hex(10),
            "timestamp": stamp,
        }

    def _image(self) -> _Image:
        """An image: a configuration, layers of a base that others have too, and layers of its own."""
        count = max(1, min(120, round(self._random.expovariate(math.log(2) / self._given.layers))))
        base = self._random.choice(self._bases) if self._random.random() < self._given.shared else ()
        own = self._layers(max(1, count - len(base)))
        config = self._blob(self._random.randint(2_000, 15_000))
        return _Image((config, *base, *own), self._manifest_bytes(1 + len(base) + len(own)))

    def _layers(self, count: int) -> tuple[str, ...]:
        return tuple(self._blob(max(100, self._layer_bytes() // self._given.shrink)) for _ in range(count))

    def _layer_bytes(self) -> int:
        random = self._random
        if self._given.profile == "hub":
            return int(min(CAP, max(100.0, random.lognormvariate(math.log(4 * MIB), 2.15))))
        chance = random.random()
        if chance < 0.65:
            return int(math.exp(random.uniform(math.log(200), math.log(MIB))))
        if chance < 0.80:
            return int(math.exp(random.uniform(math.log(MIB), math.log(10 * MIB))))
        return int(min(CAP, random.lognormvariate(math.log(17 * MIB), 0.9)))

    def _manifest_bytes(self, blobs: int) -> int:
        """About what such a manifest has: 150 bytes for each blob it names."""
        return 400 + 160 * blobs

    def _blob(self, size: int) -> str:
        self._made += 1
        digest = f"sha256:{hashlib.sha256(f'{self._given.seed} {self._made}'.encode()).hexdigest()}"
        self._sizes[digest] = size
        return digest

    def _hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"


def lines(parameters: Parameters) -> Iterator[bytes]:
    """Write a trace as the IBM files are written: one JSON array, here with one object a line."""
    before = b"[\n"
    for entry in Workload(parameters).requests():
        yield before + orjson.dumps(entry)
        before = b",\n"
    yield b"\n]\n" if before == b",\n" else b"[]\n"
