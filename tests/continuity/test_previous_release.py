"""The release before this one and this one, side by side on one bucket: each reads what the other writes, and goes on where it stopped.

Before there is a second release, the code of the commit itself takes its place, by the same way.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

import pytest

from tests.continuity.previous import previous_release
from tests.images import digest_of
from tests.programs import program, run
from tests.pushing import SHAPES, Client, PushBlob, client, manifest_of, with_digest
from tests.running import STORES, Registry, bucket, registry, temporary_folder

pytestmark = pytest.mark.timeout(300)

MIB = 1024 * 1024
REPOSITORY = "upgrade/one"


@dataclass(frozen=True, slots=True)
class Sides:
    """Two replicas of two releases, and a client of each."""

    old: Client
    new: Client
    here: Registry


@pytest.fixture(params=STORES)
async def sides(request: pytest.FixtureRequest) -> AsyncIterator[Sides]:
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        store = await stack.enter_async_context(bucket(request.param, folder))
        code = folder / "previous"
        code.mkdir()
        previous = previous_release(code)
        print(f"previous release: {previous.name}")
        public = "http://127.0.0.1:5000"
        before, here = (registry(store, folder, public_url=public) for _ in range(2))
        before.environment["PYTHONPATH"] = str(previous.path)
        command = (sys.executable, "-P", "-c", "import edgeproxy.app; print(edgeproxy.app.__file__)")
        assert (await run(*command, environment=before.environment)).strip() == str(
            previous.path / "edgeproxy" / "app.py"
        )
        for one in (before, here):
            await one.start()
            stack.push_async_callback(one.stop)
        old, new = [await stack.enter_async_context(client(one.url)) for one in (before, here)]
        yield Sides(old, new, here)


async def push(to: Client, tag: str, chance: Random, shape: PushBlob = Client.post_put) -> tuple[bytes, list[bytes]]:
    config = json.dumps({"architecture": "amd64", "os": "linux", "nonce": chance.random()}).encode()
    contents = [config, chance.randbytes(700), chance.randbytes(9 * MIB)]
    for content in contents:
        await shape(to, REPOSITORY, content)
    manifest = manifest_of(*contents)
    (await to.push_manifest(REPOSITORY, tag, manifest)).expect(201)
    return manifest, contents


async def test_what_one_release_pushes_in_every_shape_the_other_serves(sides: Sides, chance: Random) -> None:
    ways = ((sides.old, sides.new, "from-old"), (sides.new, sides.old, "from-new"))
    for (writer, reader, name), (number, shape) in product(ways, enumerate(SHAPES)):
        tag = f"{name}-{number}"
        manifest, contents = await push(writer, tag, chance, shape)
        digest, blobs = await reader.whole(REPOSITORY, tag)
        assert digest == digest_of(manifest)
        assert blobs == {digest_of(content): content for content in contents}
        assert await reader.manifest(REPOSITORY, digest) == manifest
        assert tag in json.loads((await reader.ask("GET", f"/v2/{REPOSITORY}/tags/list")).expect(200).body)["tags"]
    assert (await sides.here.fsck("--bytes"))["damage"] == []


async def test_a_push_that_began_at_one_release_goes_on_and_ends_at_the_other(sides: Sides, chance: Random) -> None:
    for first, second in ((sides.old, sides.new), (sides.new, sides.old)):
        content = chance.randbytes(MIB)
        begun = (await first.append(await first.start(REPOSITORY), content[:1000], 0)).expect(202)
        going = (await second.append(begun.header("location"), content[1000:], 1000)).expect(202)
        (await first.ask("PUT", with_digest(going.header("location"), digest_of(content)))).expect(201)
        assert await second.blob(REPOSITORY, digest_of(content)) == content


async def test_what_one_release_deletes_is_gone_at_the_other(sides: Sides, chance: Random) -> None:
    for writer, other in ((sides.old, sides.new), (sides.new, sides.old)):
        await push(writer, "short-lived", chance)
        await other.manifest(REPOSITORY, "short-lived")
        (await other.ask("DELETE", f"/v2/{REPOSITORY}/manifests/short-lived")).expect(202)
        (await writer.ask("GET", f"/v2/{REPOSITORY}/manifests/short-lived")).expect(404)
    assert (await sides.here.fsck())["damage"] == []


def _history(root: Path) -> None:
    """Make a project with two releases and a commit after them."""
    git = ("git", "-c", "user.name=one", "-c", "user.email=one@example.com", "-C", str(root))
    (root / "edgeproxy").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name in ("v0.9.0", "v0.10.0", "HEAD"):
        (root / "edgeproxy" / "which.py").write_text(name)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", name], check=True)
        if name != "HEAD":
            subprocess.run([*git, "tag", name], check=True)


def test_the_newest_tag_is_taken_and_not_the_one_that_is_being_released(tmp_path: Path) -> None:
    program("git")
    root = tmp_path / "project"
    _history(root)

    def taken(name: str) -> tuple[str, str]:
        (tmp_path / name).mkdir()
        previous = previous_release(tmp_path / name, root)
        return previous.name, (previous.path / "edgeproxy" / "which.py").read_text()

    assert taken("after") == ("v0.10.0", "v0.10.0")
    subprocess.run(["git", "-C", str(root), "checkout", "-q", "v0.10.0"], check=True)
    assert taken("at the newest") == ("v0.9.0", "v0.9.0")
    subprocess.run(["git", "-C", str(root), "checkout", "-q", "v0.9.0"], check=True)
    assert taken("before any") == ("HEAD", "v0.9.0")


def test_without_a_history_the_code_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "project" / "edgeproxy").mkdir(parents=True)
    (tmp_path / "taken").mkdir()
    previous = previous_release(tmp_path / "taken", tmp_path / "project")

    assert "want of a history" in previous.name
    assert (previous.path / "edgeproxy").is_dir()
