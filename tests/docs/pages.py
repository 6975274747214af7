"""The pages that people read, taken apart: code fences with the heading they stand under, headings, links, tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
PAGES: Final = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE: Final = re.compile(r"^```(.*)$")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Fence:
    """A block of code. `info` are the words after the three ticks: the language, and what a test does with it."""

    info: tuple[str, ...]
    text: str
    line: int
    heading: str

    @property
    def language(self) -> str:
        """The first word."""
        return self.info[0] if self.info else ""

    @property
    def use(self) -> str:
        """The second word, or nothing."""
        return self.info[1] if len(self.info) > 1 else ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, taken apart. `prose` is what stands outside of fences."""

    path: Path
    fences: tuple[Fence, ...]
    headings: tuple[str, ...]
    prose: str

    @classmethod
    def read(cls, path: Path) -> Page:
        """Read a page; a fence that does not end fails."""
        fences: list[Fence] = []
        headings: list[str] = []
        prose: list[str] = []
        opened: tuple[tuple[str, ...], int] | None = None
        inside: list[str] = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if (match := _FENCE.match(line)) is not None:
                if opened is None:
                    opened, inside = (tuple(match[1].split()), number), []
                else:
                    fences.append(
                        Fence(opened[0], "\n".join(inside) + "\n", opened[1], headings[-1] if headings else "")
                    )
                    opened = None
            elif opened is not None:
                inside.append(line)
            else:
                prose.append(line)
                if line.startswith("#"):
                    headings.append(line.lstrip("#").strip())
        assert opened is None, f"{path.name}:{opened and opened[1]}: this fence does not end"
        return cls(path, tuple(fences), tuple(headings), "\n".join(prose))

    @property
    def links(self) -> tuple[str, ...]:
        """The targets of all links."""
        return tuple(_LINK.findall(self.prose))

    @property
    def anchors(self) -> frozenset[str]:
        """What a link to a heading of this page is called."""
        return frozenset(anchor(heading) for heading in self.headings)

    def tables(self, heading: str) -> list[list[list[str]]]:
        """Give the tables under a heading as rows of cells, without their heads; never none."""
        _, found, rest = self.prose.partition(f"# {heading}\n")
        assert found, f"{self.path.name} has no heading {heading!r}"
        lines = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
        tables = [
            [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
            for is_table, table in groupby(lines, lambda line: line.startswith("|"))
            if is_table
        ]
        assert tables, f"{self.path.name} has no table under {heading!r}"
        return [table[2:] for table in tables]


def anchor(heading: str) -> str:
    """Give the anchor of a heading as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
