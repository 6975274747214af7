"""JSON documents, read so that no two parsers can take one document for two.

Image-spec demands I-JSON: UTF-8, no byte order mark, no name twice in one object, no lone surrogates, no NaN or Infinity. Names that
differ from a field of the specification only by the case of letters are refused too, as parsers in Go take them for that field.
"""

from __future__ import annotations

import itertools
import json
import re
from array import array
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from edgeproxy.oci.errors import ManifestInvalid
from edgeproxy.oci.names import shown

MAX_DEPTH: Final = 64
"""Nesting of objects and lists; a manifest needs five levels."""

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[{]}")


def read_document(content: bytes) -> dict[str, Any]:
    """Read a JSON object. Integers beyond 64 bits become floats.

    Raises:
        ManifestInvalid: it is not one, nests deeper than 64 levels, or two parsers could read it differently.

    """
    try:
        # Refuses what is not I-JSON, but for repeated names, of which it keeps the last.
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ManifestInvalid(f"the manifest is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    _check_depth(content)
    # Numbers are known to be well-formed; their values do not matter here, and `int` refuses very long ones.
    json.loads(content.decode(), object_pairs_hook=_check_names, parse_int=len, parse_float=len)
    return document


def check_fields(item: Mapping[str, Any], fields: Collection[str], where: str) -> None:
    """Refuse names that some parsers take for one of `fields`, which are in the specification's spelling.

    Raises:
        ManifestInvalid: names the field, of the object that `where` names.

    """
    folded = {field.casefold(): field for field in fields}
    for name in item:
        meant = folded.get(name.casefold())
        if meant is not None and meant != name:
            raise ManifestInvalid(f"{where} has {shown(name)}, which some clients read as '{meant}'; write '{meant}'")


def _check_depth(content: bytes) -> None:
    brackets = _STRING.sub(b"", content).translate(_STEPS, _NO_BRACKETS)
    # Signed bytes: 1 opens, -1 closes.
    if max(itertools.accumulate(array("b", brackets))) > MAX_DEPTH:
        raise ManifestInvalid(f"the manifest nests objects and lists deeper than {MAX_DEPTH} levels")


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise ManifestInvalid(f"the manifest has the name {shown(name)} twice in one object")
        seen.add(name)
