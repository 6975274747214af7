"""How a file holds an object: the bytes, and behind them, where there is more to say than bytes, a trailer.

```
<bytes of the object> [<JSON: content type, metadata> <length of the JSON: 4 bytes, big endian> <MAGIC: 16 bytes>]
```

Bytes and trailer are one file so that one rename or link changes both. An object of content type `OCTETS` without
metadata has no trailer, so its file can be checked with `sha256sum`; unless its own bytes end in `MAGIC`: it gets one
then, and reading is never in doubt. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from edgeproxy.storage import OCTETS

MAGIC: Final = b"\x00edgeproxy.tail\x01"
_LENGTH_BYTES: Final = 4
FIXED_BYTES: Final = _LENGTH_BYTES + len(MAGIC)
MAX_BYTES: Final = 4096
"""Largest trailer, all told: what a reader reads of the end of a file."""


class TrailerDamaged(ValueError):
    """The file ends in `MAGIC`, but what is before it is no trailer: something else has written into it."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """What is known of an object beside its bytes; `size` is what the trailer takes in the file, 0 if there is none."""

    content_type: str = OCTETS
    metadata: Mapping[str, str] = field(default_factory=dict)
    size: int = 0

    @classmethod
    def parse(cls, end: bytes) -> Trailer:
        """Read the trailer from the last `MAX_BYTES` of a file (or the whole of a smaller one).

        Raises:
            TrailerDamaged: there is one, and it does not parse.

        """
        if not end.endswith(MAGIC):
            return cls()
        length = int.from_bytes(end[-FIXED_BYTES : -len(MAGIC)], "big")
        size = length + FIXED_BYTES
        if len(end) < FIXED_BYTES or size > len(end):
            raise TrailerDamaged("the length of the trailer is not possible")
        try:
            content = orjson.loads(end[-size:-FIXED_BYTES])
            return cls(content["content_type"], content["metadata"], size)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise TrailerDamaged("the trailer is not the JSON that was written") from None


def trailer(content_type: str, metadata: Mapping[str, str], end: bytes) -> bytes:
    """Print what is to follow the bytes of an object whose last bytes are `end` (as many as `MAGIC` has, if there are).

    Raises:
        ValueError: the metadata do not fit.

    """
    if content_type == OCTETS and not metadata and not end.endswith(MAGIC):
        return b""
    content = orjson.dumps({"content_type": content_type, "metadata": dict(metadata)}, option=orjson.OPT_SORT_KEYS)
    if len(content) + FIXED_BYTES > MAX_BYTES:
        raise ValueError(f"content type and metadata take {len(content)} bytes; keep metadata under 2 KiB")
    return content + len(content).to_bytes(_LENGTH_BYTES, "big") + MAGIC
