"""Pushers that go on until the registry goes away, and remember what it acknowledged."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

import aiohttp

from tests.images import digest_of
from tests.pushing import OCTETS, SHAPES, Client, manifest_of, pieces, with_digest

SMALL = (0, 1, 700, 65_536, 300_000)
LARGE = 9 * 1024 * 1024
"""Above one part: a multipart upload."""

GONE = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


@dataclass
class Session:
    """An upload of which the registry has acknowledged a part."""

    location: str
    content: bytes
    sent: int


@dataclass
class Acknowledged:
    """What the registry said it has. A tag names what was acknowledged last, or what was last attempted after that."""

    blobs: set[tuple[str, str]] = field(default_factory=set)
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    attempts: dict[tuple[str, str], str] = field(default_factory=dict)
    sessions: list[Session] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many promises that is."""
        return len(self.blobs) + len(self.manifests) + len(self.sessions)


async def push_images(client: Client, name: str, chance: Random, known: Acknowledged) -> None:
    """Push one image after the other, each under a tag of its own and under one that moves, until the registry is gone."""
    number = 0
    try:
        while True:
            number += 1
            await _push_image(client, f"kill/{name}", f"v{number}", chance, known)
    except GONE:
        pass


async def _push_image(client: Client, repository: str, tag: str, chance: Random, known: Acknowledged) -> None:
    sizes = [chance.choice(SMALL), LARGE if chance.random() < 0.1 else chance.choice(SMALL)]
    layers = [chance.randbytes(size) for size in sizes]
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    for content in (config, *layers):
        digest = await chance.choice(SHAPES)(client, repository, content)
        known.blobs.add((repository, digest))
    manifest = manifest_of(config, *layers)
    digest = digest_of(manifest)
    for reference in (tag, "latest"):
        known.attempts[repository, reference] = digest
        (await client.push_manifest(repository, reference, manifest)).expect(201)
        known.tags[repository, reference] = digest
        known.manifests[repository, digest] = manifest


async def begin_sessions(client: Client, name: str, chance: Random, known: Acknowledged) -> None:
    """Begin uploads and leave them with a part acknowledged, until the registry is gone."""
    try:
        while True:
            content = chance.randbytes(200_000)
            cut = chance.randrange(1, len(content))
            location = await client.start(f"kill/{name}")
            reply = (await client.ask("PATCH", location, data=pieces(content[:cut]), headers=OCTETS)).expect(202)
            known.sessions.append(Session(reply.header("location"), content, cut))
    except GONE:
        pass


async def verify(client: Client, known: Acknowledged) -> None:
    """Hold the registry to what it acknowledged; every byte is pulled and hashed."""
    for repository, digest in sorted(known.blobs):
        await client.blob(repository, digest)
    for (repository, digest), manifest in known.manifests.items():
        assert await client.manifest(repository, digest) == manifest
        await client.whole(repository, digest)
    for (repository, tag), attempted in known.attempts.items():
        reply = await client.ask("GET", f"/v2/{repository}/manifests/{tag}")
        acknowledged = known.tags.get((repository, tag))
        if acknowledged is not None or reply.status == 200:
            assert digest_of(reply.expect(200).body) in (acknowledged, attempted), f"{repository}:{tag}"
        else:
            reply.expect(404)
    await _continue(client, known.sessions)


async def _continue(client: Client, sessions: Iterable[Session]) -> None:
    for session in sessions:
        status = (await client.ask("GET", session.location)).expect(204)
        assert status.header("range") == f"0-{session.sent - 1}"
        rest = session.content[session.sent :]
        digest = digest_of(session.content)
        finish = with_digest(status.header("location"), digest)
        created = (await client.ask("PUT", finish, data=rest, headers=OCTETS)).expect(201)
        repository = created.header("location").removeprefix("/v2/").partition("/blobs/")[0]
        assert await client.blob(repository, digest) == session.content
