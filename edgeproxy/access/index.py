"""Finding what may concern a request among hundreds of rules; it only narrows, `policy` checks every claim. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Generic, Literal, TypeVar

from edgeproxy.access.decisions import Claim
from edgeproxy.access.matching import Condition, Key, NameGlob, scalar_key
from edgeproxy.access.rules import Rule
from edgeproxy.oci.operations import Access, Action

Item = TypeVar("Item")

_Demand = tuple[str, Key | tuple[Literal["start"], str]] | None
"""A claim and the value that a rule accepts there, or how it must begin; None where nothing so simple can be said."""


class GlobIndex(Generic[Item]):
    """Items by globs over names: literal names by hash, the others under the folder before their first wildcard."""

    def __init__(self, entries: Iterable[tuple[NameGlob, Item]]) -> None:
        self._literal: dict[str, list[Item]] = defaultdict(list)
        self._folders: dict[str, list[tuple[NameGlob, Item]]] = defaultdict(list)
        for glob, item in entries:
            if glob.is_literal:
                self._literal[glob.text].append(item)
            else:
                self._folders[glob.folder].append((glob, item))

    def matching(self, name: str) -> Iterator[Item]:
        """Yield every item with a glob that matches the name, once for each such glob."""
        if name in self._literal:
            yield from self._literal[name]
        folder = name
        while folder:
            folder = folder.rpartition("/")[0]
            for glob, item in self._folders.get(folder, ()):
                if glob.matches(name):
                    yield item


class RuleIndex:
    """One issuer's rules, by the rarest claim value each one demands, and below that by action and repository."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        demands = {rule: [_demands(condition) for condition in rule.conditions] for rule in rules}
        counts = Counter(demand for choices in demands.values() for choice in choices for demand in choice)
        self._keyed: dict[_Demand, list[Rule]] = defaultdict(list)
        for rule, choices in demands.items():
            usable = [choice for choice in choices if choice]
            rarest = min(usable, key=lambda choice: max(counts[demand] for demand in choice), default={None})
            for demand in rarest:
                self._keyed[demand].append(rule)
        # Sorted, as the order of a document decides nothing.
        self._claims = {
            claim: _starts_of(claim, self._keyed) for claim in sorted({met[0] for met in self._keyed if met})
        }
        self._buckets = {demand: _by_action(bucket) for demand, bucket in self._keyed.items()}
        self._everyone = _by_action(rules)

    def candidates(self, claims: Mapping[str, Claim], access: Access) -> dict[str, Rule]:
        """Find, by name, every rule that covers the access and may match the claims; none that matches is missing."""
        found: dict[str, Rule] = {}
        for pair in self._demands_met(claims):
            globs = self._buckets.get(pair, {}).get(access.action)
            if globs is not None:
                found.update((rule.name, rule) for rule in globs.matching(access.repository.name))
        return found

    def near(self, claims: Mapping[str, Claim], access: Access, limit: int) -> list[Rule]:
        """Find enforced rules worth comparing with a refused access, at most `limit`.

        Those that cover it; else those that allow something on the repository; else those that demand a claim this
        caller has. Where there are too many, the rules that demand a claim this caller has come first.
        """
        for actions in ((access.action,), tuple(Action)):
            keyed = (self.candidates(claims, Access(access.repository, action)).values() for action in actions)
            covering = (self._covering(action, access.repository.name) for action in actions)
            near = _first(chain(chain.from_iterable(keyed), chain.from_iterable(covering)), limit)
            if near:
                return near
        return _first(chain.from_iterable(self._keyed.get(met, ()) for met in self._demands_met(claims)), limit)

    def _covering(self, action: Action, repository: str) -> Iterator[Rule]:
        globs = self._everyone.get(action)
        return iter(()) if globs is None else globs.matching(repository)

    def _demands_met(self, claims: Mapping[str, Claim]) -> Iterator[_Demand]:
        yield None
        for claim, lengths in self._claims.items():
            value = claims.get(claim)
            for element in value if isinstance(value, list) else (value,):
                key = scalar_key(element)
                if key is not None:
                    yield (claim, key)
                if isinstance(key, str):
                    yield from ((claim, ("start", key[:length])) for length in lengths)


def _starts_of(claim: str, demands: Iterable[_Demand]) -> tuple[int, ...]:
    """Collect the lengths of the beginnings that are demanded of a claim."""
    keys = (demand[1] for demand in demands if demand and demand[0] == claim)
    return tuple(sorted({len(key[1]) for key in keys if isinstance(key, tuple) and isinstance(key[1], str)}))


def _demands(condition: Condition) -> set[_Demand]:
    """Say in single demands what a condition accepts, or nothing where one of its alternatives cannot be said so."""
    if not all(pattern.start for pattern in condition.patterns):
        return set()
    starts: set[_Demand] = {(condition.claim, ("start", pattern.start)) for pattern in condition.patterns}
    return starts | {(condition.claim, key) for key in condition.keys}


def _first(rules: Iterable[Rule], limit: int) -> list[Rule]:
    found: dict[Rule, None] = {}
    for rule in rules:
        if rule.enforced:
            found[rule] = None
        if len(found) == limit:
            break
    return list(found)


def _by_action(rules: Iterable[Rule]) -> dict[Action, GlobIndex[Rule]]:
    entries: dict[Action, list[tuple[NameGlob, Rule]]] = defaultdict(list)
    for rule in rules:
        for permission in rule.allow:
            for action in permission.actions:
                entries[action].extend((glob, rule) for glob in permission.repositories)
    return {action: GlobIndex(pairs) for action, pairs in entries.items()}
