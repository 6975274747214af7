"""Strict reading of YAML that is reviewed like code: every value knows its line, and nothing is guessed. Pure.

It is read as YAML 1.2: only `true` and `false` are booleans, and a plain scalar on which YAML readers disagree (`no`,
`0x10`, `1_000`, `12e4`) is refused. So are anchors, aliases, tags, several documents and duplicate keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]
"""What a document is made of."""

Path = tuple[str | int, ...]
"""The way from the top of a document to one of its nodes."""

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 150_000

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}", re.ASCII)
_DISPUTED: Final = re.compile(
    r"(?i:yes|no|on|off)"
    r"|[-+]?\.(?i:inf|nan)"
    r"|[-+]?0[box]?[0-9a-fA-F_]+"
    r"|[-+]?(?:[0-9][0-9_]*)?\.?[0-9_]+(?:[eE][-+]?[0-9]+)?\.?"
    r"|[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?",
    re.ASCII,
)
_LITERALS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: `line` counts from 1, `where` is a path such as `rules[0].match.ref`."""

    source: str
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.where + ': ' if self.where else ''}{self.message}"


class PolicyError(ValueError):
    """A policy document was refused; `problems` is never empty and ordered by line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Source:
    """A document that was read: its plain value, and the line of each of its nodes."""

    name: str
    value: Value = field(repr=False)
    lines: Mapping[Path, int] = field(repr=False)

    def line(self, path: Path) -> int:
        """Find the line of a node, or of the nearest node above it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, message: str) -> Problem:
        """State a problem at a node."""
        return Problem(self.name, self.line(path), printed(path), message)


def printed(path: Path) -> str:
    """Print a path as people write it: `rules[0].match.ref`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read(text: bytes, source: str) -> tuple[Source, tuple[Problem, ...]]:
    """Read a document, with the problems that do not keep the rest of it from being checked.

    Raises:
        PolicyError: it is too large, not UTF-8, empty, or not YAML at all.

    """
    if len(text) > MAX_BYTES:
        raise PolicyError((Problem(source, 1, "", f"the document is larger than {MAX_BYTES} bytes"),))
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise PolicyError((Problem(source, line, "", "the document is not UTF-8"),)) from None
    builder = _Builder(source)
    try:
        for event in yaml.parse(decoded, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        lines = decoded.count("\n") + 1
        line = min(error.problem_mark.line + 1, lines) if error.problem_mark else 1
        raise PolicyError((Problem(source, line, "", f"this is not YAML: {error.problem}"),)) from None
    except yaml.YAMLError as error:
        raise PolicyError((Problem(source, 1, "", f"this is not YAML: {str(error).splitlines()[0]}"),)) from None
    if not builder.documents or builder.root is None:
        raise PolicyError((Problem(source, 1, "", "the document is empty: it begins with `version: 1`"),))
    return Source(source, builder.root, builder.lines), tuple(builder.problems)


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun and not ended; `key` is what the next value of a mapping is stored under."""

    value: list[Value] | dict[str, Value]
    path: Path
    key: str | None = None


class _Builder:
    """Puts parse events together without recursion, so that depth costs nothing but a counter."""

    def __init__(self, source: str) -> None:
        self.documents = 0
        self.root: Value = None
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._source = source
        self._nodes = 0
        self._open: list[_Open] = []

    def take(self, event: yaml.Event) -> None:
        """Take in the next event.

        Raises:
            PolicyError: the document is nested too deeply, or holds too many values, to read on.

        """
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._refuse(line, "a second document begins here: one file holds one policy")
        elif isinstance(event, yaml.AliasEvent):
            self._refuse(line, f"alias `*{event.anchor}` is not allowed: write the value out")
            self._add(None, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _node(self, event: yaml.NodeEvent, line: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise PolicyError((Problem(self._source, line, "", f"the document holds more than {MAX_NODES} values"),))
        if event.anchor is not None:
            self._refuse(line, f"anchor `&{event.anchor}` is not allowed: write the value out where it is used")
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            self._refuse(line, f"tag `{tag}` is not allowed: quote the value if it is a string")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
            return
        if len(self._open) >= MAX_DEPTH:
            problem = Problem(self._source, line, "", f"nested deeper than {MAX_DEPTH} levels")
            raise PolicyError((*self.problems, problem))
        value: list[Value] | dict[str, Value] = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        path = self._add(value, line)
        self._open.append(_Open(value, path))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        plain = event.implicit[0]
        within = self._open[-1] if self._open else None
        if within is not None and isinstance(within.value, dict) and within.key is None:
            self._key(within, event.value, line, plain=plain)
            return
        self._add(self._resolved(event.value, line) if plain else self._text(event.value, line), line)

    def _key(self, within: _Open, key: str, line: int, *, plain: bool) -> None:
        if plain and not isinstance(_core(key), str):
            self._refuse(line, f"key `{key}` is not a string: quote it")
        if key in within.value:
            self._refuse(line, f"key `{key}` appears twice in this mapping")
        within.key = self._text(key, line)
        self.lines[(*within.path, within.key)] = line

    def _add(self, value: Value, line: int) -> Path:
        if not self._open:
            if self.documents == 1:
                self.root = value
            self.lines.setdefault((), line)
            return ()
        within = self._open[-1]
        if isinstance(within.value, list):
            path: Path = (*within.path, len(within.value))
            within.value.append(value)
            self.lines[path] = line
            return path
        if within.key is None:
            self._refuse(line, "a key must be a plain string")
            within.key = ""
        path = (*within.path, within.key)
        within.value[within.key] = value
        self.lines.setdefault(path, line)
        within.key = None
        return path

    def _resolved(self, text: str, line: int) -> Value:
        value = _core(text)
        if isinstance(value, str) and _DISPUTED.fullmatch(text):
            self._refuse(
                line, f"YAML readers disagree on `{text[:60]}`: quote it, or write true, false or a plain number"
            )
        return value

    def _text(self, text: str, line: int) -> str:
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._refuse(line, "a string holds half of a surrogate pair")
            return ""
        return text

    def _refuse(self, line: int, message: str) -> None:
        where = printed(self._open[-1].path) if self._open else ""
        self.problems.append(Problem(self._source, line, where, message))


def _core(text: str) -> Value:
    if text in _LITERALS:
        return _LITERALS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def nodes(value: Value, path: Path = ()) -> Iterator[tuple[Path, Value]]:
    """Go through a value and everything in it."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from nodes(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from nodes(item, (*path, index))
