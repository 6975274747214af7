"""What is unsafe or dead in a policy that loads: `edgeproxy policy lint`. Pure.

Each finding has a number that never changes its meaning:

EP001 a rule without a claim that identifies anyone       EP009 keys or a rule expired, or about to
EP002 names at GitHub or GitLab without numeric ids       EP010 `public` carries push or delete
EP003 pull request events may push or delete              EP011 repositories or tags outside the grammar
EP004 a pattern that crosses separators, or takes all     EP012 an issuer nobody uses
EP005 alternatives of a regex outside a group             EP013 an issuer over http
EP006 a rule that no token can match                      EP014 short-lived CI tokens may push, without `token_seconds`
EP007 a rule that another one already covers              EP015 a document that grants nothing
EP008 a denial that hides a whole rule
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from edgeproxy.access.compilation import Files
from edgeproxy.access.covering import denial_hides, permissions_cover, rule_covers
from edgeproxy.access.findings import Finding, Linted
from edgeproxy.access.lint_matches import MATCH_CHECKS, WRITING
from edgeproxy.access.parsing import parse
from edgeproxy.access.policy import load_policy
from edgeproxy.access.source import Path, Source
from edgeproxy.oci.errors import ManifestInvalid, NameInvalid
from edgeproxy.oci.names import Repository, Tag
from edgeproxy.oci.operations import Action

__all__ = ["Finding", "lint"]

SOON: Final = 30 * 86400
"""Seconds before an expiry from which on it is told."""


def lint(text: bytes, *, source: str, now: float, files: Files | None = None) -> tuple[Finding, ...]:
    """Find what is unsafe or dead in a document, ordered by line; empty if nothing is.

    `now` in seconds since the epoch; `files` as in `load_policy`.

    Raises:
        PolicyError: the document does not load at all.

    """
    parsed = parse(text, source=source, loopback=True)
    linted = Linted(parsed, load_policy(text, source=source, loopback=True, now=now, files=files), now)
    findings = (finding for check in _CHECKS for finding in check(linted))
    return tuple(sorted(findings, key=lambda finding: (finding.line, finding.code)))


def _covered(linted: Linted) -> Iterator[Finding]:
    rules = list(linted.rules())
    for position, (path, rule) in enumerate(rules):
        if not rule.enforced:
            continue
        by = ""
        for other_position, (_, other) in enumerate(rules):
            # Of two rules that cover each other the first stays.
            twins = other_position > position and rule_covers(rule, other)
            if other is not rule and not twins and rule_covers(other, rule):
                by = f"rule `{other.name}`"
                break
        if (
            not by
            and rule.token_seconds is None
            and rule.deliver is None
            and permissions_cover(linted.policy.public, rule.allow)
        ):
            by = "`public`"
        if by:
            yield linted.finding(
                "EP007", path,
                f"rule `{rule.name}` adds nothing: {by} already allows it",
                "Whoever removes it believes to have taken a right away, and has not.",
                f"remove it, or narrow {by}",
            )  # fmt: skip


def _hidden(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        for denial in linted.policy.denials:
            if denial_hides(denial, rule):
                yield linted.finding(
                    "EP008", path,
                    f"rule `{rule.name}` allows nothing: denial `{denial.name}` refuses all of it",
                    "Callers are refused by the denial, and the rule will come alive on the day the denial is removed.",
                    "remove the rule, or narrow the denial",
                )  # fmt: skip


def _expiring(linted: Linted) -> Iterator[Finding]:
    ends = [((*path, "expires"), f"rule `{rule.name}`", rule.expires) for path, rule in linted.rules()]
    for name, issuer in linted.policy.issuers.items():
        end = issuer.keys.not_after
        ends.append((("issuers", name, "keys", "not_after"), f"keys of issuer `{name}`", inf if end is None else end))
    for path, what, end in ends:
        if end <= linted.now + SOON:
            expired = end <= linted.now
            yield linted.finding(
                "EP009", path,
                f"{what} {'expired' if expired else f'expires within {SOON // 86400} days'}",
                "Its callers are refused." if expired else "From then on its callers are refused.",
                "remove it, or give it a later date after checking that it is still needed",
            )  # fmt: skip


def _public(linted: Linted) -> Iterator[Finding]:
    for index, entry in enumerate(linted.policy.public):
        wider = sorted(entry.actions & WRITING)
        if wider:
            yield linted.finding(
                "EP010", ("public", index, "actions"),
                f"`public` carries {' and '.join(wider)}",
                "Everyone who reaches the registry can replace what others pull; off loopback the document is refused.",
                "keep pull here, and give the rest to a rule",
            )  # fmt: skip


def _grammar(linted: Linted) -> Iterator[Finding]:
    for path, text in _globs(linted.source):
        is_tag = path[-2] == "tags"
        parse_name: Callable[[str], object] = Tag.parse if is_tag else Repository.parse
        example = re.sub(r"\*+", "a", text)
        try:
            parse_name(example)
        except (NameInvalid, ManifestInvalid):
            what = "tag" if is_tag else "repository"
            yield linted.finding(
                "EP011", path,
                f"no {what} can be called `{text}`",
                "The entry is about nothing: what it should allow is refused, what it should refuse is allowed.",
                "use lower-case letters and digits joined by `.`, `_`, `__` or `-`, separated by `/`, and `*` or `**`",
            )  # fmt: skip
        if re.search(r"[^/*]\*\*", text) and not is_tag:
            yield linted.finding(
                "EP004", path,
                f"`{text}` matches across `/`: the first component is not closed before `**`",
                f"It is also about `{text.partition('**')[0]}-other/...`, whoever owns that.",
                f"write `{text.partition('**')[0]}/**`",
            )  # fmt: skip


def _globs(source: Source) -> Iterator[tuple[Path, str]]:
    value = source.value
    for path in source.lines:
        lists = path[-2:-1] in (("repositories",), ("except",), ("hide",)) or (
            path[-2:-1] == ("tags",) and len(path) == 4
        )
        if lists and path[0] in ("rules", "deny", "public", "hide", "tags") and isinstance(path[-1], int):
            node = value
            for step in path:
                node = node[step]  # type: ignore[index]
            if isinstance(node, str):
                yield path, node


def _issuers(linted: Linted) -> Iterator[Finding]:
    used = {rule.issuer for rule in linted.policy.rules}
    for name, issuer in linted.policy.issuers.items():
        if name not in used:
            yield linted.finding(
                "EP012", ("issuers", name),
                f"no rule uses issuer `{name}`",
                "Its tokens are believed for nothing: one more party that can sign for an identity here.",
                "remove it, or write the rule that needs it",
            )  # fmt: skip
        if issuer.url.startswith("http:"):
            yield linted.finding(
                "EP013", ("issuers", name, "url"),
                f"issuer `{name}` is reached over http",
                "Whoever sits between can replace its keys, and then sign tokens of anyone there.",
                "use https; http is for tests on one machine",
            )  # fmt: skip


def _short_tokens(linted: Linted) -> Iterator[Finding]:
    for path, rule in linted.rules():
        pushes = any(Action.PUSH in permission.actions for permission in rule.allow)
        if rule.enforced and pushes and rule.token_seconds is None and linted.kind(rule.issuer) != "other":
            yield linted.finding(
                "EP014", path,
                f"rule `{rule.name}` has no token_seconds, and the tokens of CI issuer `{rule.issuer}` live minutes",
                "A push that takes longer than the job's token breaks in the middle, as clients fetch a token once.",
                "add `token_seconds: 3600`, or as long as the longest push takes",
            )  # fmt: skip


def _empty(linted: Linted) -> Iterator[Finding]:
    if not linted.policy.public and not any(rule.enforced for rule in linted.policy.rules):
        yield linted.finding(
            "EP015", (),
            "the document grants nothing",
            "Every request is refused.",
            "add an issuer and a rule, or repositories to `public`",
        )  # fmt: skip


_CHECKS: Final = (
    *MATCH_CHECKS, _covered, _hidden, _expiring, _public, _grammar, _issuers, _short_tokens, _empty,
)  # fmt: skip
