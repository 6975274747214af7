"""Images of edgeproxy for a machine to pull: one that works, one like it, and some that are broken in one way each."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.images import CONFIG, LAYER, MANIFEST, Blob, Image, digest_of
from tests.pushing import Client
from tests.terraform import debian

PROJECT: Final = Path(__file__).parents[2]
LIBRARY: Final = "opt/edgeproxy/lib"
ENTRYPOINT: Final = "/opt/edgeproxy/bin/edgeproxy"
PROGRAM: Final = '#!/bin/sh\nPYTHONPATH=/opt/edgeproxy/lib exec /usr/bin/python3 -m edgeproxy "$@"\n'

BROKEN: Final = {
    "unfit": f'#!/bin/sh\n[ "$1" = check ] && {{ echo "this one is unfit" >&2; exit 1; }}\nexec {ENTRYPOINT} "$@"\n',
    "crashing": f'#!/bin/sh\n[ "$1" = serve ] && exit 3\nexec {ENTRYPOINT} "$@"\n',
    "deaf": f'#!/bin/sh\n[ "$1" = serve ] && exec sleep 600\nexec {ENTRYPOINT} "$@"\n',
}
"""What the entry point of an image does that is not to be used: its check fails; it ends at once; it never gets ready."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, packed and unpacked."""

    blob: Blob
    difference: str


def layers(folder: Path) -> tuple[Layer, ...]:
    """Make the layers of edgeproxy: Debian with Python, what edgeproxy needs, and edgeproxy. The first two are kept for the next run."""
    locked = PROJECT / "requirements" / "runtime.txt"
    program = folder / "program"
    shutil.copytree(
        PROJECT / "edgeproxy", program / LIBRARY / "edgeproxy", ignore=shutil.ignore_patterns("__pycache__")
    )
    entry = program / ENTRYPOINT.lstrip("/")
    entry.parent.mkdir()
    entry.write_text(PROGRAM)
    entry.chmod(0o755)
    kept = (
        debian.kept("layer-base", str(debian.base()), lambda archive: _pack(debian.base(), archive)),
        debian.kept("layer-requirements", locked.read_text(), _pack_requirements),
    )
    return *map(_read, kept), _layer(program)


def _pack_requirements(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = (
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--target", f"{folder}/{LIBRARY}",
            "--python-version", "3.11", "--only-binary", ":all:", "--require-hashes", "-r", str(PROJECT / "requirements" / "runtime.txt"),
        )  # fmt: skip
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        _pack(Path(folder), archive)


def _pack(tree: Path, archive: Path) -> None:
    pack = (
        "tar", "--create", "--directory", str(tree), "--numeric-owner", "--owner=0", "--group=0", "--mode=go+rX",
        "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./var/cache/*", "--file=-", ".",
    )  # fmt: skip
    with (
        archive.open("wb") as output,
        subprocess.Popen(pack, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as packing,
    ):
        subprocess.run(("gzip", "-1", "--no-name"), check=True, stdin=packing.stdout, stdout=output)
    assert packing.returncode == 0


def _read(archive: Path) -> Layer:
    packed = archive.read_bytes()
    return Layer(Blob(LAYER, packed, digest_of(packed)), digest_of(gzip.decompress(packed)))


def _layer(tree: Path) -> Layer:
    archive = tree.with_suffix(".tar.gz")
    _pack(tree, archive)
    return _read(archive)


def script_layer(folder: Path, script: str) -> Layer:
    """Make a layer that holds one script, `/entry`."""
    folder.mkdir()
    (folder / "entry").write_text(script)
    (folder / "entry").chmod(0o755)
    return _layer(folder)


def image(made: tuple[Layer, ...], name: str, entrypoint: str = ENTRYPOINT) -> Image:
    """Put layers together."""
    settings: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [entrypoint], "Cmd": ["serve"], "Labels": {"org.opencontainers.image.version": name}},
        "rootfs": {"type": "layers", "diff_ids": [layer.difference for layer in made]},
    }
    content = json.dumps(settings).encode()
    config = Blob(CONFIG, content, digest_of(content))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor,
        "layers": [layer.blob.descriptor for layer in made],
    }
    return Image(json.dumps(manifest).encode(), config, tuple(layer.blob for layer in made), name)


async def push(client: Client, repository: str, pushed: Image, tag: str) -> None:
    """Push an image under a tag."""
    for blob in pushed.blobs:
        known = await client.ask("HEAD", f"/v2/{repository}/blobs/{blob.digest}")
        if known.status != 200:
            await client.post_put(repository, blob.content)
    (await client.push_manifest(repository, tag, pushed.manifest)).expect(201)
