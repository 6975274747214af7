"""An image that can run, made by the tests: a shell, a little random data and a random layer of 20 MiB."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

LARGE = 20 * 1024 * 1024
"""Bytes of the large layer."""


def digest_of(content: bytes) -> str:
    """Give the digest of bytes as the specification writes it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes and what they are."""

    media_type: str
    content: bytes
    digest: str

    @property
    def descriptor(self) -> dict[str, Any]:
        """What a manifest says of them."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class Image:
    """An image of one platform. `greeting` is what its container prints;"""

    manifest: bytes
    config: Blob
    layers: tuple[Blob, ...]
    greeting: str

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return digest_of(self.manifest)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Everything that its manifest names."""
        return (self.config, *self.layers)

    def write_archive(self, path: Path, reference: str) -> Path:
        """Write an archive that `docker load` and every reader of OCI layouts understand."""
        with tarfile.open(path, "w") as archive:
            for name, content in self._files(reference).items():
                _add(archive, name, content)
        return path

    def write_layout(self, folder: Path, reference: str) -> Path:
        """Write an OCI layout, a folder."""
        for name, content in self._files(reference).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def _files(self, reference: str) -> Mapping[str, bytes]:
        tag = reference.rpartition(":")[2]
        names = {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": reference}
        entry = {"mediaType": MANIFEST, "digest": self.digest, "size": len(self.manifest), "annotations": names}
        index = {"schemaVersion": 2, "manifests": [entry]}
        blobs = {_path(blob.digest): blob.content for blob in self.blobs} | {_path(self.digest): self.manifest}
        docker = {
            "Config": _path(self.config.digest),
            "RepoTags": [reference],
            "Layers": [_path(layer.digest) for layer in self.layers],
        }
        return {
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
            "index.json": json.dumps(index).encode(),
            "manifest.json": json.dumps([docker]).encode(),
            **blobs,
        }


def make_image(busybox: Path, seed: int) -> Image:
    """Make an image whose container prints a greeting and the digest of its large file.

    `busybox` is a statically linked one. Each seed gives other layers, so that nothing of another test is found again.
    """
    large = Random(seed).randbytes(LARGE)
    greeting = f"greetings from {seed}: sha256:{hashlib.sha256(large).hexdigest()}"
    script = (
        f'/bin/busybox echo "greetings from {seed}: sha256:$(/bin/busybox sha256sum /large | /bin/busybox cut -c1-64)"'
    )
    files: tuple[dict[str, bytes], ...] = (
        {"bin/busybox": busybox.read_bytes()},
        {"small": Random(seed + 1).randbytes(4096)},
        {"large": large},
    )
    layers, differences = [], []
    for contents in files:
        plain = _tar(contents)
        packed = gzip.compress(plain, compresslevel=1, mtime=0)
        layers.append(Blob(LAYER, packed, digest_of(packed)))
        differences.append(digest_of(plain))
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/busybox", "sh", "-c", script]},
            "rootfs": {"type": "layers", "diff_ids": differences},
        }
    ).encode()
    config_blob = Blob(CONFIG, config, digest_of(config))
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config_blob.descriptor,
            "layers": [layer.descriptor for layer in layers],
        }
    ).encode()
    return Image(manifest, config_blob, tuple(layers), greeting)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name, content)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o755
    archive.addfile(entry, io.BytesIO(content))
