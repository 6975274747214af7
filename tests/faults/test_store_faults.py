"""Trouble at the store: 5xx, 429, slowness and cut connections never turn into a lie, a loss or a 4xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

import pytest

from tests.forwarding import Forwarder, forwarding
from tests.images import digest_of
from tests.pushing import OCTETS, SHAPES, Client, Reply, client, manifest_of, pieces, with_digest
from tests.r2.app import ACCESS_KEY, SECRET_KEY
from tests.r2.running import RunningDouble, running_double
from tests.running import BUCKET, Registry, registry, s3_bucket, temporary_folder

pytestmark = pytest.mark.timeout(600)

SIZES = (0, 700, 65_536, 300_000)
TWO_PARTS = 12 * 1024 * 1024
PUSHERS, PUSHES = 5, 4
TROUBLE = {500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Place:
    """A registry over the double, reached through a forwarder that can cut."""

    registry: Registry
    double: RunningDouble
    line: Forwarder
    to: Client


@asynccontextmanager
async def troubled() -> AsyncIterator[Place]:
    """Run a registry over the double."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        double = await stack.enter_async_context(running_double(bucket=BUCKET, write_interval=None))
        line = await stack.enter_async_context(forwarding(int(double.endpoint.rpartition(":")[2])))
        store = s3_bucket("r2", line.port, folder, "auto", ACCESS_KEY, SECRET_KEY)
        running = registry(store, folder)
        await running.start()
        stack.push_async_callback(running.stop)
        to = await stack.enter_async_context(client(running.url, seconds=90))
        yield Place(running, double, line, to)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with troubled() as running:
        yield running


def _is_honest(reply: Reply) -> None:
    """Hold a refusal to what the registry promises about trouble that is not the client's fault."""
    assert reply.status in TROUBLE, reply
    assert int(reply.header("retry-after")) > 0, reply


class Refused(Exception):
    """The registry said that it cannot serve this now."""


class Honest(Client):
    """A client that takes trouble for an answer, if it is an honest one."""

    async def ask(self, *arguments: object, **options: object) -> Reply:
        """Send one request."""
        reply = await super().ask(*arguments, **options)  # type: ignore[arg-type]
        if reply.status >= 500:
            _is_honest(reply)
            raise Refused
        return reply


async def _push(to: Client, repository: str, tag: str, chance: Random) -> dict[str, bytes]:
    layers = [chance.randbytes(chance.choice(SIZES)), chance.randbytes(TWO_PARTS if chance.random() < 0.1 else 5000)]
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    for content in (config, *layers):
        await chance.choice(SHAPES)(to, repository, content)
    manifest = manifest_of(config, *layers)
    (await to.push_manifest(repository, tag, manifest)).expect(201)
    return {digest_of(content): content for content in (config, *layers)}


async def _push_many(place: Place, chance: Random) -> dict[tuple[str, str], dict[str, bytes]]:
    """Push many images at once; give what was acknowledged."""
    acknowledged: dict[tuple[str, str], dict[str, bytes]] = {}

    async def pusher(name: str, own: Random) -> None:
        async with client(place.registry.url, seconds=90, kind=Honest) as to:
            for number in range(PUSHES):
                try:
                    acknowledged[f"trouble/{name}", f"v{number}"] = await _push(
                        to, f"trouble/{name}", f"v{number}", own
                    )
                except Refused:
                    continue

    async with asyncio.TaskGroup() as group:
        for index in range(PUSHERS):
            group.create_task(pusher(str(index), Random(chance.random())))
    return acknowledged


async def _all_there(place: Place, acknowledged: dict[tuple[str, str], dict[str, bytes]]) -> None:
    place.double.double.faults.clear()
    for (repository, tag), blobs in acknowledged.items():
        assert (await place.to.whole(repository, tag))[1] == blobs
    report = await place.registry.fsck("--bytes")
    assert report["damage"] == []


@pytest.mark.parametrize(
    ("effect", "how"),
    [
        pytest.param("error", {"status": 500, "code": "InternalError"}, id="500"),
        pytest.param("error", {"status": 503, "code": "SlowDown"}, id="503"),
        pytest.param("error", {"status": 429, "code": "TooManyRequests"}, id="429"),
        pytest.param("cut-before", {}, id="connections cut before the work"),
        pytest.param("cut-after", {}, id="connections cut after the work"),
        pytest.param("cut-body", {}, id="connections cut in the middle of a body"),
    ],
)
async def test_what_is_acknowledged_under_trouble_is_kept_and_the_rest_is_refused_honestly(
    effect: str, how: dict[str, object], place: Place, chance: Random
) -> None:
    faults = place.double.double.faults
    faults.random.seed(chance.random())
    trouble = faults.add(effect, times=None, probability=0.15, **how)  # type: ignore[arg-type]
    acknowledged = await _push_many(place, chance)
    print(f"{effect} {how}: {trouble.hit} calls hit, {len(acknowledged)} of {PUSHERS * PUSHES} pushes acknowledged")

    assert trouble.hit > 0
    assert len(acknowledged) > PUSHERS * PUSHES // 4, "the registry tries again, so that most pushes do not notice"
    await _all_there(place, acknowledged)


async def test_an_upload_that_met_trouble_at_its_end_can_be_finished_later(place: Place, chance: Random) -> None:
    content = chance.randbytes(TWO_PARTS)
    location = await place.to.start("trouble/later")
    patched = (await place.to.ask("PATCH", location, data=pieces(content), headers=OCTETS)).expect(202)
    location = patched.header("location")
    place.double.double.faults.add("error", times=None, status=500)
    refused = await place.to.ask("PUT", with_digest(location, digest_of(content)))
    place.double.double.faults.clear()
    finished = await place.to.finish(location, digest_of(content))

    _is_honest(refused)
    assert await place.to.blob("trouble/later", finished) == content


async def test_while_the_store_is_down_warm_blobs_are_redirected_and_all_else_is_refused_honestly(
    place: Place, chance: Random
) -> None:
    warm = await _push(place.to, "trouble/down", "v1", chance)
    cold = await _push(place.to, "trouble/cold", "v1", chance)
    await place.to.whole("trouble/down", "v1")
    await place.registry.stop()
    await place.registry.start()
    await place.to.whole("trouble/down", "v1")
    target, place.line.target = place.line.target, 1  # nobody listens there
    await place.line.drop()
    for digest in warm:
        (await place.to.ask("GET", f"/v2/trouble/down/blobs/{digest}")).expect(307)
    for digest in cold:
        for method in ("GET", "HEAD"):
            _is_honest(await place.to.ask(method, f"/v2/trouble/cold/blobs/{digest}"))
    _is_honest(await place.to.ask("GET", "/v2/trouble/cold/manifests/v1"))
    _is_honest(await place.to.ask("POST", f"/v2/trouble/cold/blobs/uploads/?digest={digest_of(b'x')}", data=b"x"))
    assert (await place.to.ask("GET", "/readyz")).status == 503
    assert (await place.to.ask("GET", "/healthz")).status == 200
    place.line.target = target
    for digest, content in cold.items():
        assert await place.to.blob("trouble/cold", digest) == content


async def test_a_store_that_never_answers_makes_no_request_hang_beyond_its_deadline(
    place: Place, chance: Random
) -> None:
    await _push(place.to, "trouble/slow", "v1", chance)
    place.double.double.faults.add("latency", times=None, seconds=600)
    # The client's own patience, 90 s, is the bound: a reply that came is what is proven.
    replies = await asyncio.gather(
        place.to.ask("GET", "/v2/trouble/slow/manifests/v1"),
        place.to.ask("HEAD", f"/v2/trouble/other/blobs/{digest_of(b'unknown')}"),
        place.to.ask("POST", f"/v2/trouble/slow/blobs/uploads/?digest={digest_of(b'y')}", data=b"y", headers=OCTETS),
    )
    place.double.double.faults.clear()

    for reply in replies:
        _is_honest(reply)
