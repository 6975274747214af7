"""The query of a request: decoded once, strictly, and asked by name.

A plus sign is a plus sign: media types contain it, nothing that is asked for here contains a space, and clients that encode as forms
do write `%2B`. Parameters nobody asks for are ignored (`ns` of mirrors, `origin` of mounts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from edgeproxy.oci.errors import BadRequest, UriTooLong
from edgeproxy.oci.names import HEX_LENGTH, shown

MAX_QUERY_BYTES: Final = 16 * 1024
MAX_N: Final = 10_000
"""A larger page size means "as many as possible", and no page holds more."""
MAX_MARKER: Final = 256
MAX_ARTIFACT_TYPE: Final = 255

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})[^&]{0,2}")
_NUMBER: Final = re.compile(r"[0-9]+", re.ASCII)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")
_REFERRER: Final = re.compile("|".join(f"{name}-[0-9a-f]{{{length}}}" for name, length in HEX_LENGTH.items()))


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one request, by name, in the order they came."""

    values: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, query: bytes) -> Parameters:
        """Read a query.

        Raises:
            UriTooLong: it has more than 16 KiB.
            BadRequest: a percent sign without two hexadecimal digits, or bytes that are not UTF-8.

        """
        if len(query) > MAX_QUERY_BYTES:
            raise UriTooLong(f"the query has {len(query)} bytes, and at most {MAX_QUERY_BYTES} are read")
        bad = _BAD_ESCAPE.search(query)
        if bad is not None:
            raise BadRequest(
                f"the query has {shown(bad[0].decode('latin-1'))} where '%' and two hexadecimal digits belong"
            )
        values: dict[str, list[str]] = {}
        for item in query.split(b"&"):
            name, _, value = item.partition(b"=")
            if name:
                values.setdefault(_decode(name), []).append(_decode(value))
        return cls(values)

    def every(self, name: str) -> Sequence[str]:
        """Give each value of a parameter that may come more than once."""
        return self.values.get(name, ())

    def one(self, name: str) -> str | None:
        """Give a parameter that has one value, None if it does not come.

        Raises:
            BadRequest: it comes with different values.

        """
        values = self.values.get(name)
        if values is None:
            return None
        if any(value != values[0] for value in values):
            raise BadRequest(f"the parameter '{name}' comes more than once, with different values; send it once")
        return values[0]

    def page_size(self) -> int | None:
        """Read `n`, at most `MAX_N`; None if it does not come.

        Raises:
            BadRequest: it is not a number without sign.

        """
        text = self.one("n")
        if text is None:
            return None
        if _NUMBER.fullmatch(text) is None:
            raise BadRequest(f"the parameter 'n' is {shown(text)}; it is a number of entries, such as 100")
        # The length is looked at first: the digits of a hostile number are never made into one.
        digits = text.lstrip("0")
        return MAX_N if len(digits) > len(str(MAX_N)) else min(int(digits or "0"), MAX_N)

    def marker(self) -> str:
        """Read `last` of a list of names; it need not be in the list. "" begins at the start.

        Raises:
            BadRequest: it is longer than 256 characters, or not printable ASCII.

        """
        return self._printable("last", MAX_MARKER)

    def referrer_marker(self) -> str:
        """Read `last` of a list of referrers, `<alg>-<hex>` as our own links print it. "" begins at the start.

        Raises:
            BadRequest: it is something else.

        """
        text = self.one("last") or ""
        if text and _REFERRER.fullmatch(text) is None:
            raise BadRequest(f"the parameter 'last' is {shown(text)}; follow the Link header of the page before")
        return text

    def artifact_type(self) -> str | None:
        """Read `artifactType`; None if it does not come or is empty.

        Raises:
            BadRequest: it is longer than 255 characters, or not printable ASCII.

        """
        return self._printable("artifactType", MAX_ARTIFACT_TYPE) or None

    def _printable(self, name: str, limit: int) -> str:
        text = self.one(name) or ""
        if len(text) > limit or _PRINTABLE.fullmatch(text) is None:
            raise BadRequest(f"the parameter '{name}' is {shown(text)}; at most {limit} printable ASCII characters fit")
        return text


def _decode(part: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"the query has {shown(part.decode('latin-1'))}, which is not UTF-8") from None
