"""What is peculiar to a store of files: what the files hold, what a crash leaves, what several processes may do. The rest is in `tests/contract`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edgeproxy.storage import (
    MIN_PART_BYTES,
    OCTETS,
    IfAbsent,
    IfMatch,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
    walk,
)
from edgeproxy.storage.filesystem import PIECE_BYTES, FilesystemStore
from edgeproxy.storage.trailer import MAGIC, MAX_BYTES, trailer

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemStore]:
    opened = await FilesystemStore.open(root)
    yield opened
    await opened.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def keys(store: FilesystemStore) -> list[str]:
    return [info.key async for info in store.list("")]


# What the files hold


async def test_the_file_of_a_blob_is_the_blob(store: FilesystemStore, root: Path) -> None:
    await store.put("blobs/x", b"bytes")
    await store.put("blobs/empty", b"")
    upload = await store.begin("blobs/parts", MIN_PART_BYTES)
    await upload.write(2, b"second")
    await upload.write(1, b"1" * MIN_PART_BYTES)
    await upload.complete()
    assert (root / "objects/blobs/x").read_bytes() == b"bytes"
    assert (root / "objects/blobs/empty").stat().st_size == 0
    assert (root / "objects/blobs/parts").read_bytes() == b"1" * MIN_PART_BYTES + b"second"


async def test_bytes_and_metadata_are_one_file(store: FilesystemStore, root: Path) -> None:
    await store.put("a", b"bytes", metadata={"x": "y"})
    assert names(root / "objects") == ["a"]
    assert (root / "objects/a").read_bytes() == b"bytes" + trailer(OCTETS, {"x": "y"}, b"")


AMBIGUOUS = {
    "the magic": MAGIC,
    "bytes and the magic": b"bytes" + MAGIC,
    "a whole trailer": b"bytes" + trailer("text/plain", {"x": "y"}, b""),
    "an impossible length": b"bytes" + b"\xff" * 4 + MAGIC,
    "no JSON": b"bytes{\0\0\0\1" + MAGIC,
}


@pytest.mark.parametrize("data", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_bytes_that_end_like_a_trailer_come_back_as_they_were(store: FilesystemStore, data: bytes) -> None:
    await store.put("put", data)
    await store.put("described", data, content_type="text/plain", metadata={"n": "1"})
    upload = await store.begin("parts", MIN_PART_BYTES)
    await upload.write(1, data)
    await upload.complete()
    for source in ("put", "described", "parts"):
        await store.copy(source, f"copy-of-{source}")
    found = [info async for info in store.list("")]
    assert len(found) == 6
    for listed in found:
        info, read = await store.read(listed.key, len(data))
        assert read == data
        assert listed.size == info.size == len(data)
        assert info.content_type == ("text/plain" if listed.key == "described" else OCTETS)


async def test_a_damaged_trailer_is_reported_and_hides_no_neighbour(store: FilesystemStore, root: Path) -> None:
    for key in ("a", "b", "c"):
        await store.put(key, b"bytes", metadata={"x": "y"})
    damaged = b"bytes{no json}" + (9).to_bytes(4, "big") + MAGIC
    (root / "objects/b").write_bytes(damaged)
    with pytest.raises(StoreUnavailable, match="b is damaged"):
        await store.head("b")
    assert [(info.key, info.size) async for info in store.list("")] == [("a", 5), ("b", len(damaged)), ("c", 5)]
    await store.put("b", b"whole")
    assert (await store.read("b", 5))[1] == b"whole"


async def test_metadata_fit_or_are_refused(store: FilesystemStore) -> None:
    await store.put("a", b"", metadata={"x": "y" * 2048})
    assert (await store.head("a")).metadata["x"] == "y" * 2048
    with pytest.raises(ValueError, match="metadata"):
        await store.put("b", b"", metadata={"x": "y" * MAX_BYTES})
    assert await keys(store) == ["a"]


async def test_a_copy_is_a_second_name_of_the_same_file_and_new(store: FilesystemStore, root: Path) -> None:
    await store.put("a", b"bytes")
    long_ago = time.time() - 1_000_000
    os.utime(root / "objects/a", (long_ago, long_ago))
    await store.copy("a", "b")
    assert (root / "objects/a").samefile(root / "objects/b")
    assert (await store.head("b")).modified > long_ago + 900_000
    assert names(root / "tmp") == []


async def test_every_write_has_an_etag_of_its_own_though_inodes_come_back(store: FilesystemStore) -> None:
    etags = [(await store.put("a", b"same size")).etag for _ in range(300)]
    assert len(set(etags)) == 300


# Keys


@pytest.mark.parametrize("key", ["/a", "../a", "a/../../b", "a//b", "a/", "", ".", "a/./b", "a\0b"])
async def test_no_key_leaves_the_root(store: FilesystemStore, root: Path, key: str) -> None:
    await store.put("there", b"")
    attempts: list[Callable[[], Any]] = [
        lambda: store.head(key),
        lambda: store.read(key, 1),
        lambda: store.put(key, b""),
        lambda: store.put(key, b"", condition=IfAbsent()),
        lambda: store.begin(key, MIN_PART_BYTES),
        lambda: store.copy("there", key),
        lambda: store.copy(key, "there"),
        lambda: store.delete(key),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="not a key"):
            await attempt()
    with pytest.raises(ValueError, match="not a key"):
        async with store.stream(key):
            pass
    assert names(root) == ["locks", "objects", "tmp"]
    assert names(root / "tmp") == []


@pytest.mark.parametrize("prefix", ["../", "/", "a//", "./"])
async def test_no_prefix_leaves_the_root(store: FilesystemStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await anext(store.list(prefix))


async def test_a_name_longer_than_the_file_system_takes_is_refused_and_is_never_found(store: FilesystemStore) -> None:
    await store.put("a" * 255, b"")
    for condition in (None, IfAbsent()):
        with pytest.raises(StoreUnavailable, match="shorten the name"):
            await store.put("a" * 256, b"", condition=condition)
    with pytest.raises(NotFound):
        await store.head("a" * 256)
    await store.delete("a" * 256)
    assert await keys(store) == ["a" * 255]


# Multipart


async def test_parts_are_held_to_their_size_and_numbers(store: FilesystemStore) -> None:
    with pytest.raises(ValueError, match="too small"):
        await store.begin("a", MIN_PART_BYTES - 1)
    upload = await store.begin("a", MIN_PART_BYTES)
    for number in (0, 10_001):
        with pytest.raises(ValueError, match="numbers go from 1"):
            await upload.write(number, b"")
    with pytest.raises(ValueError, match="parts have"):
        await upload.write(1, b"1" * (MIN_PART_BYTES + 1))
    with pytest.raises(ValueError, match="part 1"):
        await upload.complete()
    await upload.write(3, b"last")
    await upload.write(1, b"short")
    for missing in ("part 1", "part 2"):
        with pytest.raises(ValueError, match=missing):
            await upload.complete()
        assert await keys(store) == []
        await upload.write(int(missing[-1]), b"x" * MIN_PART_BYTES)
    assert (await upload.complete()).size == 2 * MIN_PART_BYTES + 4


async def test_nothing_can_be_written_after_abort(store: FilesystemStore, root: Path) -> None:
    upload = await store.begin("a", MIN_PART_BYTES)
    await upload.abort()
    with pytest.raises(StoreUnavailable):
        await upload.write(1, b"late")
    assert names(root / "tmp") == []


# Durability


class Recorder:
    """Writes down the moves that the kernel is asked for, and makes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: list[tuple[str, str]] = []
        self._fsync, self._link, self._replace = os.fsync, os.link, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "link", self.link)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self.moves.append(("sync", "temporary" if Path(path).parent.name == "tmp" else Path(path).name))

    def link(self, source: str, target: str) -> None:
        self._link(source, target)
        self.moves.append(("name", Path(target).name))

    def replace(self, source: str, target: str) -> None:
        self._replace(source, target)
        self.moves.append(("name", Path(target).name))


@pytest.mark.parametrize("condition", [None, IfAbsent()])
async def test_bytes_are_synced_before_they_have_a_name_and_the_name_before_the_answer(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, condition: IfAbsent | None
) -> None:
    recorder = Recorder(monkeypatch)
    await store.put("x/y/z", b"bytes", condition=condition)
    assert recorder.moves == [
        ("sync", "temporary"), ("sync", "objects"), ("sync", "x"), ("name", "z"), ("sync", "y"),
    ]  # fmt: skip
    recorder.moves.clear()
    await store.put("x/y/z2", b"bytes", condition=condition)
    assert recorder.moves == [("sync", "temporary"), ("name", "z2"), ("sync", "y")]


async def test_a_multipart_object_is_synced_before_it_has_a_name(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    upload = await store.begin("z", MIN_PART_BYTES)
    await upload.write(1, b"bytes")
    assert recorder.moves == []
    await upload.complete()
    assert recorder.moves == [("sync", "temporary"), ("name", "z"), ("sync", "objects")]


async def test_a_delete_is_synced_where_the_last_name_went(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("x/y/a", b"")
    await store.put("x/y/b", b"")
    recorder = Recorder(monkeypatch)
    await store.delete("x/y/a")
    assert recorder.moves == [("sync", "y")]
    await store.delete("x/y/b")
    assert recorder.moves == [("sync", "y"), ("sync", "objects")]
    assert names(root / "objects") == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EIO, "the disk fails"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EMFILE, "too many open files"),
    ],
)
async def test_a_disk_that_refuses_leaves_nothing_and_says_what_to_do(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    await store.put("there", b"before")
    upload = await store.begin("big", MIN_PART_BYTES)
    await upload.write(1, b"bytes")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for attempt in (store.put("new", b""), store.put("there", b"after"), upload.complete(), store.check()):
            with pytest.raises(StoreUnavailable, match=advice) as caught:
                await attempt
            assert str(root) in str(caught.value)
    await upload.abort()
    assert await keys(store) == ["there"]
    assert (await store.read("there", 10))[1] == b"before"
    assert names(root / "tmp") == []


def unmount(root: Path) -> None:
    root.rename(root.with_name("unmounted"))


def mount(root: Path) -> None:
    root.with_name("unmounted").rename(root)


async def test_a_root_that_has_gone_does_not_come_back_empty(store: FilesystemStore, root: Path) -> None:
    unmount(root)
    for attempt in (store.check(), store.put("a", b"")):
        with pytest.raises(StoreUnavailable, match="is the disk mounted"):
            await attempt
    assert names(root.parent) == ["unmounted"]
    mount(root)
    await store.check()
    (root / "objects").rmdir()
    for key in ("a", "a/b"):
        with pytest.raises(StoreUnavailable, match="is the disk mounted"):
            await store.put(key, b"", condition=IfAbsent())
    assert names(root) == ["locks", "tmp"]


async def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="open in"):
        await FilesystemStore.open(tmp_path / "file")


async def test_a_new_root_is_closed_to_others_and_an_existing_one_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "existing").mkdir(mode=0o755)
    for name, mode in (("new", 0o700), ("existing", 0o755)):
        store = await FilesystemStore.open(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == mode
        await store.close()


async def test_only_old_temporary_files_are_removed(root: Path) -> None:
    (root / "tmp").mkdir(parents=True)
    (root / "tmp/left").write_bytes(b"left by a dead process")
    for later, remaining in ((86_000, ["left"]), (90_000, [])):
        store = await FilesystemStore.open(root, clock=lambda later=later: time.time() + later)  # type: ignore[misc]
        assert names(root / "tmp") == remaining
        await store.close()


async def test_a_closed_store_says_so(root: Path) -> None:
    store = await FilesystemStore.open(root)
    await store.put("a", b"")
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.head("a")


# Streams and descriptors


async def test_a_stream_outlives_the_name_of_its_object(store: FilesystemStore) -> None:
    data = random.Random(1).randbytes(3 * PIECE_BYTES)
    for end in (store.delete("a"), store.put("a", b"other")):
        await store.put("a", data)
        async with store.stream("a") as (_, pieces):
            first = await anext(pieces)
            await end
            assert first + b"".join([piece async for piece in pieces]) == data


async def test_no_descriptor_is_left_open(store: FilesystemStore) -> None:
    await store.put("a", b"x" * 3 * PIECE_BYTES)
    await store.head("a")
    before = descriptors()

    async def read_one_piece_then_wait(reading: asyncio.Event) -> None:
        async with store.stream("a") as (_, pieces):
            await anext(pieces)
            reading.set()
            await asyncio.Event().wait()

    for _ in range(20):
        async with store.stream("a") as (_, pieces):
            await anext(pieces)
        with suppress(LookupError):
            async with store.stream("a"):
                raise LookupError
        with suppress(NotFound):
            async with store.stream("absent"):
                pass
        reading = asyncio.Event()
        task = asyncio.create_task(read_one_piece_then_wait(reading))
        await reading.wait()
        task.cancel()
        await asyncio.wait([task])
    assert descriptors() == before


async def test_a_read_after_the_end_of_the_context_fails(store: FilesystemStore) -> None:
    await store.put("a", b"bytes")
    async with store.stream("a") as (_, pieces):
        pass
    with pytest.raises(StoreUnavailable, match="after the end"):
        await anext(pieces)


async def test_a_file_that_shrinks_while_it_is_read_cuts_the_stream(store: FilesystemStore, root: Path) -> None:
    await store.put("a", b"x" * 2 * PIECE_BYTES)
    async with store.stream("a") as (_, pieces):
        await anext(pieces)
        os.truncate(root / "objects/a", PIECE_BYTES)
        with pytest.raises(StoreUnavailable, match="shorter"):
            await anext(pieces)


async def test_work_cancelled_at_any_moment_is_over_when_the_task_is(store: FilesystemStore, root: Path) -> None:
    await store.put("a", b"x" * PIECE_BYTES)
    before = descriptors()

    async def work(n: int) -> None:
        await store.put(f"new/{n}", b"y" * PIECE_BYTES)
        await store.copy("a", f"copies/{n}")
        async with store.stream("a") as (_, pieces):
            await anext(pieces)
        await asyncio.Event().wait()

    for turns in range(60):
        task = asyncio.create_task(work(turns))
        for _ in range(turns % 20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert names(root / "tmp") == []
    assert descriptors() == before
    for key in await keys(store):
        assert (await store.head(key)).size == PIECE_BYTES


# Directories


async def test_a_directory_made_and_emptied_by_rivals_holds_what_was_acknowledged(store: FilesystemStore) -> None:
    async def come_and_go(n: int) -> None:
        for turn in range(30):
            await store.put(f"d/e/f/{n}", b"%d" % turn)
            assert (await store.read(f"d/e/f/{n}", 10))[1] == b"%d" % turn
            await store.delete(f"d/e/f/{n}")

    await asyncio.gather(*[come_and_go(n) for n in range(8)])
    assert await keys(store) == []
    await store.put("d/e/f", b"a file where there was a directory")
    assert await keys(store) == ["d/e/f"]


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
async def test_a_directory_larger_than_a_page_is_listed_in_order(store: FilesystemStore, root: Path, page: int) -> None:
    names = [f"{a}{sep}{b}" for a in ("a", "b", "a-b", "a.b", "a0") for sep in ("/", "-") for b in ("x", "y/z", "z")]
    for name in names:
        await store.put(name, b"")
    objects = str(root / "objects")
    assert [info.key for info in walk.objects(objects, "", "", page)] == sorted(names)
    assert [info.key for info in walk.objects(objects, "a", "a.b/x", page)] == [
        name for name in sorted(names) if name.startswith("a") and name > "a.b/x"
    ]


# Several processes

COUNT = """
import asyncio, sys
from pathlib import Path
from edgeproxy.storage import IfAbsent, IfMatch, NotFound, PreconditionFailed
from edgeproxy.storage.filesystem import FilesystemStore

async def main():
    store = await FilesystemStore.open(Path(sys.argv[1]))
    lost = counted = 0
    while counted < int(sys.argv[2]):
        try:
            try:
                info, data = await store.read("counter", 100)
                await store.put("counter", b"%d" % (int(data) + 1), condition=IfMatch(info.etag))
            except NotFound:
                await store.put("counter", b"1", condition=IfAbsent())
        except PreconditionFailed:
            lost += 1
        else:
            counted += 1
    print(lost)
    await store.close()

asyncio.run(main())
"""


async def python(program: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
    )


async def test_processes_that_race_by_if_match_lose_no_update(store: FilesystemStore, root: Path) -> None:
    processes = [await python(COUNT, str(root), "200") for _ in range(3)]
    answers = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    print("lost races:", [int(answer) for answer, _ in answers])
    assert (await store.read("counter", 10))[1] == b"600"


async def test_an_unconditional_write_is_never_overwritten_by_a_stale_if_match(store: FilesystemStore) -> None:
    for _ in range(50):
        seen = await store.put("a", b"seen")

        async def move(etag: str = seen.etag) -> bool:
            try:
                await store.put("a", b"moved", condition=IfMatch(etag))
            except PreconditionFailed:
                return False
            return True

        await asyncio.gather(move(), store.put("a", b"unconditional"))
        assert (await store.read("a", 20))[1] == b"unconditional"


WRITE = """
import asyncio, hashlib, random, sys
from pathlib import Path
from edgeproxy.storage import MIN_PART_BYTES, IfAbsent
from edgeproxy.storage.filesystem import FilesystemStore

def acknowledge(what, key, data):
    print(what, key, hashlib.sha256(data).hexdigest(), flush=True)

async def write(store, chance, name):
    for n in range(1_000_000):
        data = chance.randbytes(chance.choice([0, 10, 3000, 300_000]))
        key = f"blobs/{hashlib.sha256(data).hexdigest()}"
        await store.put(key, data)
        acknowledge("is", key, data)
        link = f"repos/{name}/{n % 7}"
        await store.put(link, data, metadata={"sha256": hashlib.sha256(data).hexdigest()})
        acknowledge("is", link, data)
        big = data + b"x" * MIN_PART_BYTES
        upload = await store.begin(f"uploads/{name}/{n}", MIN_PART_BYTES)
        await asyncio.gather(upload.write(2, big[MIN_PART_BYTES:]), upload.write(1, big[:MIN_PART_BYTES]))
        await upload.complete(IfAbsent())
        await store.copy(f"uploads/{name}/{n}", f"blobs/{hashlib.sha256(big).hexdigest()}")
        acknowledge("is", f"blobs/{hashlib.sha256(big).hexdigest()}", big)
        await store.delete(f"uploads/{name}/{n}")
        acknowledge("gone", f"uploads/{name}/{n}", b"")

async def main():
    store = await FilesystemStore.open(Path(sys.argv[1]))
    await asyncio.gather(*[write(store, random.Random(sys.argv[2] + str(n)), f"{sys.argv[2]}-{n}") for n in range(4)])

asyncio.run(main())
"""


async def whole(store: FilesystemStore, key: str) -> str:
    info, data = await store.read(key, 10 * MIN_PART_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    if key.startswith("blobs/"):
        assert key == f"blobs/{digest}"
    if key.startswith("repos/"):
        assert info.metadata == {"sha256": digest}
    return digest


async def test_a_kill_at_any_moment_loses_nothing_acknowledged_and_shows_nothing_partial(
    store: FilesystemStore, root: Path
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    promised: dict[str, str] = {}
    gone: set[str] = set()
    for turn in range(6):
        process = await python(WRITE, str(root), f"{seed}-{turn}")
        assert process.stdout is not None
        said = b"".join([await process.stdout.readline() for _ in range(chance.randrange(1, 60))])
        await asyncio.sleep(chance.random() / 50)
        process.kill()
        # What it had said before it died counts too; the last line may be cut.
        rest, _ = await process.communicate()
        assert process.returncode == -9
        for line in (said + rest).decode().splitlines(keepends=True):
            if line.endswith("\n"):
                what, key, digest = line.split()
                if what == "is":
                    promised[key] = digest
                else:
                    gone.add(key)
    assert promised
    for key, digest in promised.items():
        found = await whole(store, key)
        # A link may have been written once more than was acknowledged; `whole` has held it to its own metadata.
        assert found == digest or key.startswith("repos/")
    listed = await keys(store)
    assert gone.isdisjoint(listed)
    for key in listed:
        await whole(store, key)
        await store.put(key, b"not locked by the dead")
