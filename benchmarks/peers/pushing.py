"""Pushes of large layers with as little work on our side as can be: plain sockets in threads, bytes made and hashed before."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.push_memory import MIB, pieces
from tests.pushing import OCTETS, with_digest


class PushFailed(Exception):
    """A push did not end as it should; the message says how."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of so many MiB, made from a seed when it is sent."""

    seed: int
    mib: int
    digest: str


@dataclass(frozen=True, slots=True)
class Pusher:
    """Pushes to one repository of one registry on loopback."""

    port: int
    repository: str
    headers: Mapping[str, str]

    def put(self, layer: Layer) -> None:
        """Push as containerd does: the digest comes before the bytes.

        Raises:
            PushFailed: it was not taken.

        """
        length = {"Content-Length": str(layer.mib * MIB)}
        location = with_digest(self._location(), layer.digest)
        self._ask("PUT", location, 201, OCTETS | length, pieces(layer.seed, layer.mib))

    def patch(self, layer: Layer) -> None:
        """Push as docker does: one PATCH of unknown length, then the digest.

        Raises:
            PushFailed: it was not taken.

        """
        chunked = {"Transfer-Encoding": "chunked"}
        location = self._ask("PATCH", self._location(), 202, OCTETS | chunked, pieces(layer.seed, layer.mib))
        self._ask("PUT", with_digest(location, layer.digest), 201, {"Content-Length": "0"})

    def expect_held(self, layer: Layer) -> None:
        """Look whether the registry has it, whole.

        Raises:
            PushFailed: it has not.

        """
        status, size, location = _head(self.port, f"/v2/{self.repository}/blobs/{layer.digest}", self.headers)
        if status == 307:  # distribution redirects a HEAD too
            parts = urlsplit(location)
            status, size, _ = _head(parts.port or 80, f"{parts.path}?{parts.query}", {"Host": parts.netloc})
        if (status, size) != (200, str(layer.mib * MIB)):
            raise PushFailed(f"HEAD of what was pushed: status {status}, {size} bytes, not {layer.mib * MIB}")

    def _location(self) -> str:
        return self._ask("POST", f"/v2/{self.repository}/blobs/uploads/", 202, {"Content-Length": "0"})

    def _ask(
        self, method: str, target: str, status: int, fields: Mapping[str, str], body: Iterable[bytes] | None = None
    ) -> str:
        """Send one request; give the location that it answers with, if any."""
        parts = urlsplit(target)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        chunked = "Transfer-Encoding" in fields
        try:
            connection.request(method, path, body, {**self.headers, **fields}, encode_chunked=chunked)
            answer = connection.getresponse()
            text = answer.read(2000)
        except OSError as error:
            raise PushFailed(f"{method} {parts.path}: {error}") from None
        finally:
            connection.close()
        if answer.status != status:
            raise PushFailed(f"{method} {parts.path}: {answer.status}, not {status}: {text.decode(errors='replace')}")
        return answer.getheader("Location", "")


def _head(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """Send a HEAD on loopback; give status, length and location."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("HEAD", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Length", ""), answer.getheader("Location", "")
    except OSError as error:
        raise PushFailed(f"HEAD {path.partition('?')[0]}: {error}") from None
    finally:
        connection.close()
