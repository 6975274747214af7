"""How a value is compared: exact scalars by type, globs and regexes, always against the whole value. Pure.

In the globs of repositories and tags `*` stays within one path component and `**` crosses them: `acme/*` matches
`acme/app`, and `acme/**` also `acme/app/web`, but neither matches `acme` itself. In the globs of claims `*` stops at
`/` and `:`, the separators of refs and subjects, so that a part whose name anyone may choose cannot stretch over its
neighbours; `**` crosses them. A wildcard may stand for nothing: `app*` matches `app`.

Patterns run on RE2, whose time is linear in the text whatever the pattern. Only this module imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson
import re2

from edgeproxy.access.decisions import Claim

Scalar = str | int | float | bool
Key = str | tuple[str, int | float]
"""A scalar as it is compared: strings as they are, numbers and booleans apart from them and from each other."""

MAX_PATTERN_LENGTH: Final = 1000
_PATTERN_MEMORY: Final = 1 << 20
_SHOWN: Final = 200
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/:@ -]+", re.ASCII)
_WILDCARD: Final = re.compile(r"(\*+)")


def scalar_key(value: Claim) -> Key | None:
    """Make a value comparable by type; None for what nothing matches: null, the empty string, lists and objects."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, int | float):
        return ("number", value)
    return None


class _Regex:
    """One compiled RE2 pattern."""

    __slots__ = ("_compiled",)

    def __init__(self, pattern: str) -> None:
        """Compile.

        Raises:
            ValueError: RE2 does not take the pattern, or it is too large.

        """
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _PATTERN_MEMORY
        try:
            self._compiled = re2.compile(pattern, options)
        except re2.error as error:
            reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
            raise ValueError(f"RE2 does not accept this regex: {reason}") from None

    def fullmatch(self, text: str) -> bool:
        try:
            return self._compiled.fullmatch(text.encode()) is not None
        except UnicodeEncodeError:
            return False  # half of a surrogate pair, which JSON can spell and no pattern means


def check_regex(pattern: str) -> str:
    """Refuse a regex that cannot be compiled; for models that validate with it.

    Raises:
        ValueError: with the reason.

    """
    _Regex(pattern)
    return pattern


@dataclass(frozen=True, slots=True)
class TextPattern:
    """`{glob: ...}` or `{regex: ...}` on a claim: it matches strings only."""

    kind: Literal["glob", "regex"]
    text: str
    start: str = field(init=False, repr=False, compare=False)
    """Whatever matches begins so; empty where that is not known."""
    _regex: _Regex = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", self.text.partition("*")[0] if self.kind == "glob" else _start(self.text))
        object.__setattr__(self, "_regex", _Regex(_translated(self.text, "/:") if self.kind == "glob" else self.text))

    def matches(self, text: str) -> bool:
        """Match the whole string."""
        return text.startswith(self.start) and self._regex.fullmatch(text)

    def __str__(self) -> str:
        return f"{self.kind} {shown(self.text)}"


@dataclass(frozen=True, slots=True)
class Condition:
    """What a rule wants of one claim: any of these, met by the claim or by any element of a list-valued claim."""

    claim: str
    values: tuple[Scalar, ...]
    patterns: tuple[TextPattern, ...]
    keys: frozenset[Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = (scalar_key(value) for value in self.values)
        object.__setattr__(self, "keys", frozenset(key for key in keys if key is not None))

    def matched(self, claims: Mapping[str, Claim]) -> Scalar | None:
        """Give the value that matched, or None. A missing claim, null and the empty string match nothing."""
        value = claims.get(self.claim)
        for candidate in value if isinstance(value, list) else (value,):
            if scalar_key(candidate) in self.keys:
                assert isinstance(candidate, Scalar)
                return candidate
            if self.patterns and isinstance(candidate, str) and candidate:
                for pattern in self.patterns:
                    if pattern.matches(candidate):
                        return candidate
        return None

    @property
    def wanted(self) -> str:
        """What is wanted, in words for an operator."""
        texts = [*(shown(value) for value in self.values), *(str(pattern) for pattern in self.patterns)]
        return texts[0] if len(texts) == 1 else f"any of {', '.join(texts)}"


@dataclass(frozen=True, slots=True)
class NameGlob:
    """A glob over the names of repositories or tags."""

    text: str
    # `acme/**`, by far the most frequent, is a question of how a name starts.
    _start: str | None = field(init=False, repr=False, compare=False)
    _regex: _Regex | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        start = self.text.removesuffix("**")
        simple = "*" not in start
        object.__setattr__(self, "_start", start if simple and not self.is_literal else None)
        object.__setattr__(self, "_regex", None if simple else _Regex(_translated(self.text, "/")))

    def matches(self, name: str) -> bool:
        """Match the whole name."""
        if self._start is not None:
            return name.startswith(self._start)
        return name == self.text if self._regex is None else self._regex.fullmatch(name)

    @property
    def is_literal(self) -> bool:
        """It has no wildcard, so it matches exactly one name."""
        return "*" not in self.text

    @property
    def folder(self) -> str:
        """The components before the first wildcard; whatever matches lies below them. Empty for none."""
        return self.text.partition("*")[0].rpartition("/")[0]

    def __str__(self) -> str:
        return self.text


def shown(value: Claim) -> str:
    """Print the value of a claim for an operator: as JSON, shortened."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = repr(value)  # an integer beyond 64 bits, or half of a surrogate pair
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _start(regex: str) -> str:
    """Find the plain characters that a regex begins with; none where alternatives make that a longer question."""
    plain = _PLAIN.match(regex)
    if plain is None or "|" in regex:
        return ""
    repeated = regex[plain.end() : plain.end() + 1] in ("*", "+", "?", "{")
    return plain[0][:-1] if repeated else plain[0]


def _translated(glob: str, separators: str) -> str:
    within = f"[^{separators}]*"
    parts = _WILDCARD.split(glob)
    return "".join(
        (within if part == "*" else "(?s:.*)") if part.startswith("*") else re2.escape(part) for part in parts if part
    )
