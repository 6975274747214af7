"""What is remembered is bounded in bytes, and the estimates of bytes are near what the interpreter takes."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from edgeproxy.access.credentials import Authenticated, Credentials
from edgeproxy.access.decisions import Denial, Grant, Identity, Mismatch, Reason
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.access.tokens import Verified, Verifier
from edgeproxy.bounded import Bounded, bytes_of
from edgeproxy.oci.names import Digest
from edgeproxy.oci.operations import Action
from edgeproxy.registry.blobs import Blobs, LastDeletion, Link
from edgeproxy.web.gate import Gate

NOW = 1_800_000_000.0
NUMBER = 600
POLICY: Policy = load_policy(b"version: 1\n", source="policy.yaml", loopback=False, now=NOW)
Fill = Callable[[int], None]


def test_what_was_put_or_used_longest_ago_goes_first() -> None:
    kept: Bounded[str, int] = Bounded(3, lambda _, value: value)
    for key in "abc":
        kept.put(key, 1)
    kept.used("a")
    kept.put("d", 2)
    assert [kept.get(key) for key in "abcd"] == [1, None, None, 2]
    assert (len(kept), kept.weight) == (2, 3)


def test_what_is_heavier_than_everything_may_be_is_not_kept_and_its_elder_neither() -> None:
    kept: Bounded[str, int] = Bounded(3, lambda _, value: value)
    kept.put("a", 3)
    assert kept.get("a") == 3
    kept.put("a", 4)
    assert (kept.get("a"), kept.weight) == (None, 0)


def test_what_is_dropped_weighs_nothing() -> None:
    kept: Bounded[str, int] = Bounded(3, lambda _, value: value)
    kept.put("a", 2)
    kept.drop("a")
    kept.drop("b")
    assert (len(kept), kept.weight) == (0, 0)
    kept.put("a", 3)
    kept.clear()
    assert (len(kept), kept.weight) == (0, 0)


def test_what_has_more_in_it_weighs_more() -> None:
    values: list[Any] = [1, "a", "ab", ["ab"], ["ab", "c"], {"ab": ["ab", "c"]}, {"ab": ["ab", "c"], "d": None}]
    weights = [bytes_of(value) for value in values]
    assert weights == sorted(set(weights))


def _name(number: int, length: int) -> str:
    return f"{number}/".ljust(length, "r")


def _hash(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def _links(length: int) -> tuple[Any, Fill]:
    links = _blobs().links

    def fill(n: int) -> None:
        digest = Digest.parse(f"sha256:{_hash(n).hex()}")
        links.put((_name(n, length), digest), Link(100_000 + n, NOW + n, NOW - n), NOW + n / 2, 0)

    return links, fill


def _deletions(length: int) -> tuple[Any, Fill]:
    deletions = _blobs().deletions
    return deletions, lambda n: deletions.put(_name(n, length), LastDeletion(_hash(n).hex()[:32], NOW + n), NOW - n, 0)


def _blobs() -> Blobs:
    unused: Any = None
    return Blobs(unused, lambda: NOW, lambda: b"")


def _identity(n: int, groups: int) -> Identity:
    claims: Any = {"sub": f"repo:acme/{n}", "groups": [f"group-{n}-{at}" for at in range(groups)], "ref": f"main{n}"}
    return Identity("ci", claims["sub"], claims, NOW + n)


def _identities(groups: int) -> tuple[Any, Fill]:
    unused: Any = None
    cache = Verifier(unused).cache
    return cache, lambda n: cache.put(_hash(n), POLICY, Verified(_identity(n, groups), NOW + n), NOW + n, NOW)


def _callers(groups: int) -> tuple[Any, Fill]:
    unused: Any = None
    cache = Credentials(unused, unused).cache

    def fill(n: int) -> None:
        scope = frozenset({_name(n, 20)})
        who = Authenticated(_identity(n, groups), scope, _hash(n + 10**6), presented=True)
        cache.put(_hash(n), POLICY, who, NOW + n, NOW)

    return cache, fill


def _decisions(length: int, *, granted: bool) -> tuple[Any, Fill]:
    unused: Any = None
    gate = Gate(lambda: POLICY, unused, lambda: NOW, "https://r")
    kept = gate._decisions

    def fill(n: int) -> None:
        made: Any = Grant("rule", ("rule",), {"sub": f"repo:acme/{n}"}, None, None, NOW + n)
        if not granted:
            made = Denial(Reason.NO_RULE, "rule", Mismatch("rule", "sub", f"got {n}", f"wanted {n}"), False, NOW + n)
        kept.put((_hash(n), POLICY.version, _name(n, length), Action.PULL), (made, NOW + n / 2))

    return gate, fill


CACHES: dict[str, Callable[[], tuple[Any, Fill]]] = {
    "links": lambda: _links(20),
    "links, long names": lambda: _links(250),
    "deletions": lambda: _deletions(20),
    "deletions, long names": lambda: _deletions(250),
    "identities": lambda: _identities(2),
    "identities, many groups": lambda: _identities(200),
    "callers": lambda: _callers(2),
    "callers, many groups": lambda: _callers(200),
    "grants": lambda: _decisions(20, granted=True),
    "denials, long names": lambda: _decisions(250, granted=False),
}


@pytest.mark.parametrize("name", CACHES)
def test_an_estimate_is_near_what_the_interpreter_takes(name: str) -> None:
    cache, fill = CACHES[name]()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(NUMBER):
            fill(n)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == NUMBER
    assert 0.7 < cache.weight / taken < 1.4, f"{cache.weight / NUMBER:.0f} estimated, {taken / NUMBER:.0f} taken"
