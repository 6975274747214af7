"""A finding of the linter, and the document as its checks see it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeproxy.access.parsing import Parsed
from edgeproxy.access.policy import Policy
from edgeproxy.access.rules import Rule
from edgeproxy.access.source import Path, Source
from edgeproxy.access.strangers import Kind, kind_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to change: where it is, what is wrong, what someone would get from it, and the fix."""

    code: str
    source: str
    line: int
    message: str
    consequence: str
    fix: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.code} {self.message}\n    {self.consequence}\n    Fix: {self.fix}"


@dataclass(frozen=True, slots=True)
class Linted:
    """A document in both its shapes: as written, for the lines, and compiled, for the meaning."""

    parsed: Parsed
    policy: Policy
    now: float

    @property
    def source(self) -> Source:
        """The document as it was read."""
        return self.parsed.source

    def rules(self) -> Iterator[tuple[Path, Rule]]:
        """Every rule in the order of the document."""
        compiled = {rule.name: rule for rule in self.policy.rules}
        for index, entry in enumerate(self.parsed.document.rules):
            yield ("rules", index), compiled[entry.name]

    def kind(self, issuer: str) -> Kind:
        """Tell what kind of issuer this is."""
        return kind_of(self.policy.issuers[issuer], [rule for rule in self.policy.rules if rule.issuer == issuer])

    def finding(self, code: str, path: Path, message: str, consequence: str, fix: str) -> Finding:
        """State a finding at a node."""
        return Finding(code, self.source.name, self.source.line(path), message, consequence, fix)

    def condition(self, path: Path, claim: str) -> Path:
        """Find the node of a rule's condition; the rule itself where a typed form spells the claim otherwise."""
        return (*path, "match", claim) if (*path, "match", claim) in self.source.lines else path
