"""From the bytes of a policy document to its checked models, with every problem told at once and by line. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edgeproxy.access import document as models
from edgeproxy.access import typed
from edgeproxy.access.document import PUBLIC, PolicyDocument
from edgeproxy.access.fields import is_loopback
from edgeproxy.access.source import Path, PolicyError, Problem, Source, Value, nodes, read
from edgeproxy.oci.errors import NameInvalid
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Action

_SECTIONS: Final = ("issuers", "rules", "deny", "hide", "public", "tags", "tests")
_CLAIMS: Final = ("claims", "inline")
"""Fields that hold the JSON of a token or a key set, in which null has a meaning."""

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document whose structure is valid, with the lines it came from."""

    document: PolicyDocument
    source: Source


def parse(text: bytes, *, source: str, loopback: bool) -> Parsed:
    """Read a document and check it whole.

    `loopback`: the service can be reached from this machine only, so `public` may carry more than pull.

    Raises:
        PolicyError: with every problem found.

    """
    read_source, problems = read(text, source)
    found = [*problems, *_empty_fields(read_source)]
    whole = _validated(read_source.value)
    if isinstance(whole, PolicyDocument):
        found += _cross_checked(_Entries(whole, read_source, frozenset()), loopback=loopback)
        if not found:
            return Parsed(whole, read_source)
        raise PolicyError(tuple(found))
    errors = whole.errors(include_url=False, include_context=True, include_input=False)
    found += _told_once(errors, read_source)
    broken = frozenset(_known(error["loc"], read_source)[:2] for error in errors)
    rest = _validated(_without(read_source.value, broken))
    if isinstance(rest, PolicyDocument):
        found += _cross_checked(_Entries(rest, read_source, broken), loopback=loopback)
    raise PolicyError(tuple(found))


def _validated(value: Value) -> PolicyDocument | ValidationError:
    try:
        return PolicyDocument.model_validate(value)
    except ValidationError as error:
        return error


def _without(value: Value, broken: frozenset[Path]) -> Value:
    """Leave out the entries that are wrong in themselves, so that the rest can be checked against each other."""
    if not isinstance(value, dict):
        return value
    rest: dict[str, Value] = {"version": 1}
    for section in _SECTIONS:
        entries = value.get(section)
        if isinstance(entries, dict):
            rest[section] = {name: entry for name, entry in entries.items() if (section, name) not in broken}
        elif isinstance(entries, list):
            rest[section] = [entry for index, entry in enumerate(entries) if (section, index) not in broken]
    return rest


def _empty_fields(source: Source) -> Iterator[Problem]:
    for path, value in nodes(source.value):
        if value is None and path and not any(step in _CLAIMS for step in path[:-1]):
            yield source.problem(path, "this is empty: give a value, or remove it")


def _known(location: tuple[int | str, ...], source: Source) -> Path:
    """Reduce the location of a model's error, which names alternatives too, to the path of a node that exists."""
    path: Path = ()
    for step in location:
        if (*path, step) in source.lines:
            path = (*path, step)
    return path


def _told_once(errors: list[ErrorDetails], source: Source) -> Iterator[Problem]:
    """Tell each mistake once: not for every alternative of a value, nor again for the list or field that holds it."""
    seen: set[tuple[Path, str]] = set()
    # Of several alternatives the one whose type fits says it best.
    for error in sorted(errors, key=lambda error: error["type"].endswith("_type")):
        path = _known(error["loc"], source)
        value = _at(source.value, path)
        # A null was told already, in words that fit it better than what it fails to be.
        if (value is None and path) or (error["type"] == "too_short" and value):
            continue
        problem = _told(error, path, source)
        place = (path, problem.message if error["type"] == "missing" else "")
        if place not in seen:
            yield problem
        seen.add(place)


def _told(error: ErrorDetails, path: Path, source: Source) -> Problem:
    kind, step = error["type"], error["loc"][-1] if error["loc"] else ""
    if kind == "missing":
        return source.problem(path, f"field `{step}` is missing")
    if kind == "extra_forbidden":
        return source.problem(path, f"unknown field `{step}`{_nearest(str(step), _fields(path))}")
    return source.problem(path, _SENTENCES.get(kind) or error["msg"].removeprefix("Value error, "))


def _at(value: Value, path: Path) -> Value:
    for step in path:
        value = value[step]  # type: ignore[index]
    return value


_EMPTY: Final = "this is empty, and empty would match nothing: give at least one value, or remove it"
_SENTENCES: Final[Mapping[str, str]] = {
    "model_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "tuple_type": "expected a list",
    "string_type": "expected a string: quote it",
    "too_short": _EMPTY,
    "string_too_short": _EMPTY,
}
_OWNERS: Final[Mapping[str, Any]] = {
    "": models.PolicyDocument,
    "issuers": models.IssuerEntry,
    "rules": models.RuleEntry,
    "deny": models.DenyEntry,
    "public": models.PublicEntry,
    "tags": models.TagsEntry,
    "tests": models.TestEntry,
    "allow": models.Allow,
    "keys": models.Keys,
    "login": models.Login,
    "github": typed.GitHubForm,
    "gitlab": typed.GitLabForm,
    "kubernetes": typed.KubernetesForm,
}


def _fields(path: Path) -> tuple[str, ...]:
    above = [step for step in path[:-1] if isinstance(step, str) and step in _OWNERS]
    fields = _OWNERS[above[-1] if above else ""].model_fields
    return tuple(field.alias or name for name, field in fields.items())


def _nearest(name: str, candidates: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, candidates, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(candidates)}" if candidates else ""


@dataclass(frozen=True, slots=True)
class _Entries:
    """The entries that are right in themselves, each with the path it has in the document."""

    document: PolicyDocument
    source: Source
    broken: frozenset[Path]

    def of(self, section: str, entries: tuple[Entry, ...]) -> Iterator[tuple[Path, Entry]]:
        value = self.source.value
        raw = value.get(section) if isinstance(value, dict) else None
        indexes = (
            index for index in range(len(raw) if isinstance(raw, list) else 0) if (section, index) not in self.broken
        )
        for index, entry in zip(indexes, entries, strict=False):
            yield (section, index), entry

    @property
    def issuers(self) -> tuple[str, ...]:
        """Every name under `issuers`, also of those that are wrong, so that one mistake is told once."""
        value = self.source.value
        named = value.get("issuers") if isinstance(value, dict) else None
        return tuple(named) if isinstance(named, dict) else ()


def _cross_checked(entries: _Entries, *, loopback: bool) -> Iterator[Problem]:
    yield from _issuers_checked(entries)
    yield from _names_checked(entries)
    yield from _references_checked(entries)
    if not loopback:
        yield from _public_checked(entries)
    for path, test in entries.of("tests", entries.document.tests):
        try:
            Repository.parse(test.repository)
        except NameInvalid as error:
            yield entries.source.problem((*path, "repository"), str(error))
        if test.issuer is None and test.claims:
            yield entries.source.problem((*path, "claims"), "claims need an `issuer`: an anonymous caller has none")


def _issuers_checked(entries: _Entries) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, issuer in entries.document.issuers.items():
        path: Path = ("issuers", name)
        if issuer.url in seen:
            yield entries.source.problem((*path, "url"), f"this URL is the one of issuer `{seen[issuer.url]}` already")
        seen.setdefault(issuer.url, name)
        if issuer.keys is None and _is_plain_http(issuer.url):
            message = "keys are discovered over https, or over http from a loopback address: use https, or give `keys`"
            yield entries.source.problem((*path, "url"), message)
        if issuer.keys is not None and issuer.keys.url is not None and _is_plain_http(issuer.keys.url):
            yield entries.source.problem(
                (*path, "keys", "url"), "keys come over https, or over http from a loopback address"
            )


def _is_plain_http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname)


def _names_checked(entries: _Entries) -> Iterator[Problem]:
    seen: set[str] = set()
    named: list[tuple[Path, models.RuleEntry | models.DenyEntry]] = [
        *entries.of("rules", entries.document.rules),
        *entries.of("deny", entries.document.deny),
    ]
    for path, entry in named:
        if entry.name == PUBLIC:
            yield entries.source.problem(
                (*path, "name"), f"`{PUBLIC}` is what decisions call the section of that name: choose another"
            )
        if entry.name in seen:
            yield entries.source.problem(
                (*path, "name"), f"name `{entry.name}` is used twice; refusals and audit lines name it"
            )
        seen.add(entry.name)


def _references_checked(entries: _Entries) -> Iterator[Problem]:
    document = entries.document
    referring: list[tuple[Path, models.RuleEntry | models.DenyEntry | models.TestEntry]] = [
        *entries.of("rules", document.rules),
        *entries.of("deny", document.deny),
        *entries.of("tests", document.tests),
    ]
    for path, entry in referring:
        if entry.issuer is not None and entry.issuer not in entries.issuers:
            message = f"issuer `{entry.issuer}` is not under `issuers`{_nearest(entry.issuer, entries.issuers)}"
            yield entries.source.problem((*path, "issuer"), message)


def _public_checked(entries: _Entries) -> Iterator[Problem]:
    for path, allow in entries.of("public", entries.document.public):
        wider = [action for action in allow.actions if action in (Action.PUSH, Action.DELETE)]
        if wider:
            message = (
                f"`public` may not carry {' and '.join(wider)}: everyone who can reach this registry could use it. "
                "It may only where both the bind address and the public URL are loopback"
            )
            yield entries.source.problem((*path, "actions"), message)
