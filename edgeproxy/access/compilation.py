"""From the checked models of a document to the compiled values that decide; files come through a callable. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any, Final

import orjson

from edgeproxy.access.document import Allow, DenyEntry, IssuerEntry, Keys, Subject
from edgeproxy.access.fields import moment, seconds
from edgeproxy.access.forms import Condition as ConditionForm
from edgeproxy.access.forms import GlobForm, RegexForm
from edgeproxy.access.matching import Condition, NameGlob, TextPattern
from edgeproxy.access.parsing import Parsed
from edgeproxy.access.rules import (
    Deny,
    Discovery,
    Expectation,
    ImmutableTags,
    InlineKeys,
    Issuer,
    KeySource,
    KeysUrl,
    Permission,
    Rule,
)
from edgeproxy.access.source import Path, PolicyError, Problem
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access

Files = Callable[[str], bytes]
"""Reads a file that a document names, relative to it. Raises OSError."""

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_SECRET_MEMBERS: Final = ("d", "k", "p", "q", "dp", "dq", "qi", "oth")


def conditions(subject: Subject) -> tuple[Condition, ...]:
    """Compile a match, whichever way it was written, in the order of the document."""
    return tuple(_condition(claim, form) for claim, form in subject.conditions.items())


def _condition(claim: str, form: ConditionForm) -> Condition:
    forms = form if isinstance(form, tuple) else (form,)
    values = tuple(item for item in forms if not isinstance(item, GlobForm | RegexForm))
    patterns = tuple(
        TextPattern("glob", item.glob) if isinstance(item, GlobForm) else TextPattern("regex", item.regex)
        for item in forms
        if isinstance(item, GlobForm | RegexForm)
    )
    return Condition(claim, values, patterns)


def globs(texts: tuple[str, ...]) -> tuple[NameGlob, ...]:
    """Compile globs over repositories or tags."""
    return tuple(NameGlob(text) for text in texts)


def permission(entry: Allow | DenyEntry) -> Permission:
    """Compile what an entry is about."""
    return Permission(globs(entry.repositories), frozenset(entry.actions))


def public(parsed: Parsed) -> tuple[Permission, ...]:
    """Compile `public`."""
    return tuple(
        Permission(globs(entry.repositories), frozenset(entry.actions), globs(entry.except_))
        for entry in parsed.document.public
    )


def rules(parsed: Parsed) -> tuple[Rule, ...]:
    """Compile `rules`, ordered by name, so that the order of a document can decide nothing."""
    compiled = (
        Rule(
            name=entry.name,
            issuer=entry.issuer,
            form=entry.form,
            conditions=conditions(entry),
            allow=tuple(permission(allow) for allow in entry.allow),
            deliver=entry.deliver,
            token_seconds=None if entry.token_seconds is None else seconds(entry.token_seconds),
            expires=inf if entry.expires is None else moment(entry.expires),
            enforced=entry.mode == "enforce",
        )
        for entry in parsed.document.rules
    )
    return tuple(sorted(compiled, key=lambda rule: rule.name))


def denials(parsed: Parsed) -> tuple[Deny, ...]:
    """Compile `deny`, ordered by name."""
    compiled = (Deny(entry.name, entry.issuer, conditions(entry), permission(entry)) for entry in parsed.document.deny)
    return tuple(sorted(compiled, key=lambda deny: deny.name))


def immutable_tags(parsed: Parsed) -> tuple[ImmutableTags, ...]:
    """Compile `tags`."""
    return tuple(ImmutableTags(globs(entry.repositories), globs(entry.tags)) for entry in parsed.document.tags)


def expectations(parsed: Parsed) -> tuple[Expectation, ...]:
    """Compile `tests`."""
    return tuple(
        Expectation(
            issuer=entry.issuer,
            claims=entry.claims,
            access=Access(Repository.parse(entry.repository), entry.action),
            allowed=entry.expect == "allow",
            line=parsed.source.line(("tests", index)),
        )
        for index, entry in enumerate(parsed.document.tests)
    )


def issuers(parsed: Parsed, files: Files | None) -> dict[str, Issuer]:
    """Compile `issuers`, and read the files they name.

    Raises:
        PolicyError: a file cannot be read, or keys or certificates are not what they should be.

    """
    reader = _Reader(parsed, files)
    compiled = {name: reader.issuer(name, entry) for name, entry in parsed.document.issuers.items()}
    if reader.problems:
        raise PolicyError(tuple(reader.problems))
    return compiled


class _Reader:
    """Reads what issuers name, and collects every problem of it."""

    def __init__(self, parsed: Parsed, files: Files | None) -> None:
        self.problems: list[Problem] = []
        self._source = parsed.source
        self._files = files

    def issuer(self, name: str, entry: IssuerEntry) -> Issuer:
        path: Path = ("issuers", name)
        return Issuer(
            name=name,
            url=entry.url,
            audiences=entry.audiences,
            algorithms=entry.algorithms,
            max_token_age=None if entry.max_token_age is None else seconds(entry.max_token_age),
            keys=Discovery() if entry.keys is None else self._keys((*path, "keys"), entry.keys),
            ca=None if entry.ca_file is None else self._certificates((*path, "ca_file"), entry.ca_file),
            login=None if entry.login is None else entry.login.client_id,
            challenge=entry.challenge,
        )

    def _keys(self, path: Path, entry: Keys) -> KeySource:
        not_after = None if entry.not_after is None else moment(entry.not_after)
        if entry.url is not None:
            return KeysUrl(entry.url, not_after)
        if entry.file is None:
            path = (*path, "inline")
            return InlineKeys(self._jwks(path, entry.inline), not_after)
        path = (*path, "file")
        try:
            jwks = orjson.loads(self._file(path, entry.file) or b"{}")
        except orjson.JSONDecodeError:
            jwks = None
        return InlineKeys(self._jwks(path, jwks), not_after)

    def _jwks(self, path: Path, jwks: Any) -> Mapping[str, Any]:
        keys = jwks.get("keys") if isinstance(jwks, dict) else None
        if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
            if not self._failed(path):
                self._refuse(path, 'this is not a JWKS: expected {"keys": [...]} with at least one key')
            return {}
        if any(member in key for key in keys for member in _SECRET_MEMBERS):
            self._refuse(path, "this JWKS holds private or shared keys: publish the public halves only")
        assert isinstance(jwks, dict)
        return jwks

    def _certificates(self, path: Path, name: str) -> bytes:
        content = self._file(path, name)
        if content is not None and _CERTIFICATE not in content:
            self._refuse(path, "this file holds no PEM certificate")
        return content or b""

    def _file(self, path: Path, name: str) -> bytes | None:
        if self._files is None:
            self._refuse(path, f"`{name}` cannot be read: give the keys or certificates another way")
            return None
        try:
            return self._files(name)
        except OSError as error:
            self._refuse(path, f"`{name}` cannot be read: {error.strerror or type(error).__name__}")
            return None

    def _failed(self, path: Path) -> bool:
        refused = self._source.problem(path, "")
        return any((problem.line, problem.where) == (refused.line, refused.where) for problem in self.problems)

    def _refuse(self, path: Path, message: str) -> None:
        self.problems.append(self._source.problem(path, message))


def claims_by_issuer(
    names: Iterator[str], compiled: tuple[Rule, ...], refused: tuple[Deny, ...]
) -> dict[str, frozenset[str]]:
    """Collect, for each issuer, the claims that decide about its callers."""
    claims: dict[str, set[str]] = {name: set() for name in names}
    entries: tuple[Rule | Deny, ...] = (*compiled, *refused)
    for entry in entries:
        for issuer in claims if entry.issuer is None else (entry.issuer,):
            claims[issuer].update(condition.claim for condition in entry.conditions)
    return {issuer: frozenset(found) for issuer, found in claims.items()}
