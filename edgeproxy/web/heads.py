"""The head of a request, read once: what the registry looks at, and refusals of heads that two parsers could read differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edgeproxy.oci.errors import BadRequest

_NONE: Final[list[bytes]] = []
# Granian's word for HTTP/1.0 is "1"; health checks still speak it.
_VERSIONS: Final = {"1", "1.0", "1.1", "2", "3"}


class Head(NamedTuple):
    """What the registry reads of a request's head. `authorization` is a secret and is not shown.

    A tuple, as one is made for each request and a frozen dataclass costs three times as much.
    """

    method: str
    raw_path: bytes
    query: bytes
    fields: dict[bytes, list[bytes]]
    content_length: int | None
    has_body: bool
    peer: str

    @classmethod
    def read(cls, scope: Mapping[str, Any]) -> Head:
        """Read the head of an ASGI scope.

        Raises:
            BadRequest: an HTTP version that does not exist, or a body framed in two ways (RFC 9112, 6.3); the connection must be closed.

        """
        fields: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            if name in fields:
                fields[name].append(value)
            else:
                fields[name] = [value]
        lengths = fields.get(b"content-length", _NONE)
        chunked = b"transfer-encoding" in fields
        if scope["http_version"] not in _VERSIONS:
            raise BadRequest("this HTTP version does not exist", headers={"connection": "close"})
        if lengths and (chunked or len(set(lengths)) > 1 or not all(map(_is_number, lengths))):
            raise BadRequest(
                "the request frames its body in two ways; send either Content-Length or Transfer-Encoding",
                headers={"connection": "close"},
            )
        length = int(lengths[0]) if lengths else None
        client = scope.get("client")
        return cls(
            method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            fields=fields,
            content_length=length,
            has_body=chunked or bool(length),
            # An IPv4 client of a socket for both kinds is told as what it is.
            peer=client[0].removeprefix("::ffff:") if client else "",
        )

    def one(self, name: bytes) -> str | None:
        """Give a field that may come once, None if it does not come.

        Raises:
            BadRequest: it comes several times with different values, or is not ASCII.

        """
        values = self.fields.get(name)
        if values is None:
            return None
        if len(set(values)) > 1:
            raise BadRequest(f"the header {name.decode()} comes more than once with different values")
        try:
            return values[0].decode("ascii").strip()
        except UnicodeDecodeError:
            raise BadRequest(f"the header {name.decode()} has characters outside ASCII") from None

    def first(self, name: bytes) -> str | None:
        """Give a field of which the lines after the first do not matter, None if it does not come."""
        values = self.fields.get(name)
        return values[0].decode("latin-1").strip() if values else None

    def __repr__(self) -> str:
        return f"Head(method={self.method!r}, raw_path={self.raw_path!r})"


def _is_number(value: bytes) -> bool:
    return value.isdigit() and len(value) <= 18
