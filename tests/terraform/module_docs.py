"""The generated part of each module's README: what it takes and gives, read off its own files.

`python -m tests.terraform.module_docs` writes it between the two markers. It reads what `terraform fmt` prints: blocks begin and end in the
first column, their attributes stand two spaces in.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2] / "terraform"
BEGIN: Final = "<!-- BEGIN_TF_DOCS -->"
END: Final = "<!-- END_TF_DOCS -->"

_BLOCK: Final = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_ATTRIBUTE: Final = re.compile(r"^  (\w+)\s+= ?(.*)$")
_HEREDOC: Final = re.compile(r"<<-(\w+)$")
_RESOURCE: Final = re.compile(r'^(resource|data) "(\w+)" "(\w+)" \{', re.MULTILINE)
_REQUIRED: Final = re.compile(r'required_version = "(.*)"')
_PROVIDER: Final = re.compile(r'source\s+= "(.*)"\n\s+version\s+= "(.*)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A variable or an output: its attributes as they are written, and how many validations it has."""

    kind: str
    name: str
    attributes: dict[str, str]
    validations: int

    @property
    def description(self) -> str:
        """Its description as one line."""
        text = self.attributes.get("description", "")
        return " ".join(text.removeprefix('"').removesuffix('"').replace('\\"', '"').replace("$${", "${").split())


def folders() -> list[Path]:
    """List every module and example."""
    return sorted(path.parent for kind in ("modules", "examples") for path in (ROOT / kind).glob("*/main.tf"))


def blocks(folder: Path) -> list[Block]:
    """Read the variables and outputs of a folder, each kind in the order in which it is written."""
    return [
        Block(kind, name, dict(_attributes(body)), len(re.findall(r"^  validation \{", body, re.MULTILINE)))
        for file in sorted(folder.glob("*.tf"))
        for kind, name, body in _BLOCK.findall(file.read_text())
    ]


def _attributes(body: str) -> Iterator[tuple[str, str]]:
    lines = iter(body.splitlines())
    for line in lines:
        if (match := _ATTRIBUTE.match(line)) is None:
            continue
        name, value = match[1], match[2]
        if heredoc := _HEREDOC.match(value):
            parts = []
            while (part := next(lines).strip()) != heredoc[1]:
                parts.append(part)
            value = "\n".join(parts)
        else:
            while _open(value):
                value += "\n" + next(lines)
        yield name, value


def _open(value: str) -> bool:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|#.*', "", value)
    return any(bare.count(opening) > bare.count(closing) for opening, closing in ("()", "[]", "{}"))


def generated(folder: Path) -> str:
    """Print the part between the markers."""
    written = "\n".join(file.read_text() for file in sorted(folder.glob("*.tf")))
    found = blocks(folder)
    inputs = [
        (f"`{block.name}`", block.description, _code(block.attributes.get("type", "any")), _default(block))
        for block in found
        if block.kind == "variable"
    ]
    outputs = [(f"`{block.name}`", block.description) for block in found if block.kind == "output"]
    needs = [("terraform", f"`{version}`") for version in _REQUIRED.findall(written)]
    needs += [(source, f"`{version}`") for source, version in _PROVIDER.findall(written)]
    resources = sorted({(f"`{kind}.{name}`" if where == "resource" else f"`data.{kind}.{name}`",)
                        for where, kind, name in _RESOURCE.findall(written)})  # fmt: skip
    parts = [
        _table("Needs", ("what", "version"), needs),
        _table("Inputs", ("name", "meaning", "type", "default"), inputs),
        _table("Outputs", ("name", "meaning"), outputs),
        _table("Resources", ("address",), resources),
    ]
    return "\n".join([BEGIN, *filter(None, parts), END])


def _default(block: Block) -> str:
    return _code(block.attributes["default"]) if "default" in block.attributes else "required"


def _code(value: str) -> str:
    text = re.sub(r"\s+#.*", "", value, flags=re.MULTILINE)
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines: list[tuple[str, ...]] = [heads, ("---",) * len(heads), *rows]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def renewed(folder: Path) -> str:
    """Give the README of a folder with its generated part as it should be.

    Raises:
        ValueError: the README has not the two markers.

    """
    text = (folder / "README.md").read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{folder.name}/README.md has no {BEGIN} ... {END}")
    return before + generated(folder) + after


def main() -> int:
    """Write the README of every module anew."""
    for folder in (each for each in folders() if each.parent.name == "modules"):
        (folder / "README.md").write_text(renewed(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
