"""`except` of `public`: what is public, but for some of it."""

from __future__ import annotations

import pytest

from edgeproxy.access.decisions import Denial, Grant, Identity, Reason
from edgeproxy.access.lint import lint
from edgeproxy.access.policy import Policy, PolicyError, load_policy
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action

NOW = 1_800_000_000.0
NO_FILES: dict[str, bytes] = {}
PUBLIC = """
version: 1
issuers:
  ci: {url: "https://ci.example.com", audiences: [r]}
rules:
  - {name: app-pulls, issuer: ci, match: {repository_id: "81"}, allow: [{repositories: [private/app], actions: [pull]}]}
public:
  - {repositories: ["**"], except: ["private/**", "secret"], actions: [pull]}
"""
CALLER = Identity("ci", "someone", {"repository_id": "81"}, NOW + 300)


def load(text: str = PUBLIC) -> Policy:
    return load_policy(text.encode(), source="policy.yaml", loopback=False, now=NOW)


@pytest.mark.parametrize("repository", ["hello", "private", "privates/app", "a/private/app", "secret/one"])
def test_everyone_may_pull_what_is_not_excepted(repository: str) -> None:
    assert isinstance(load().decide(None, Access(Repository(repository), Action.PULL), NOW), Grant)


@pytest.mark.parametrize("repository", ["private/app", "private/app/base", "secret"])
def test_nobody_may_pull_what_is_excepted_only_because_it_is_public(repository: str) -> None:
    decision = load().decide(None, Access(Repository(repository), Action.PULL), NOW)
    assert isinstance(decision, Denial)
    assert decision.reason is Reason.ANONYMOUS
    other = Identity("ci", "someone", {"repository_id": "82"}, NOW + 300)
    assert isinstance(load().decide(other, Access(Repository(repository), Action.PULL), NOW), Denial)


def test_a_rule_still_allows_what_is_excepted() -> None:
    decision = load().decide(CALLER, Access(Repository("private/app"), Action.PULL), NOW)
    assert isinstance(decision, Grant)
    assert decision.rules == ("app-pulls",)


def test_another_entry_may_make_public_what_one_excepts() -> None:
    text = PUBLIC + "  - {repositories: [private/app], actions: [pull]}\n"
    assert isinstance(load(text).decide(None, Access(Repository("private/app"), Action.PULL), NOW), Grant)


def test_the_entry_is_not_about_what_it_excepts() -> None:
    (entry,) = load().public
    assert entry.concerns("hello")
    assert not entry.concerns("private/app")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("except: []", "this is empty"),
        ('excpt: ["private/**"]', "did you mean `except`?"),
        ("except: private", "expected a list"),
    ],
)
def test_a_wrong_except_is_told(wrong: str, said: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.yaml:8") as refused:
        load(PUBLIC.replace('except: ["private/**", "secret"]', wrong))
    assert said in str(refused.value)


def test_only_public_has_it() -> None:
    text = PUBLIC.replace("repositories: [private/app]", "repositories: [private/app], except: [private/b]")
    with pytest.raises(PolicyError, match="except"):
        load(text)


def lint_codes(text: str) -> list[str]:
    return [finding.code for finding in lint(text.encode(), source="policy.yaml", now=NOW, files=NO_FILES.__getitem__)]


def test_a_rule_for_what_is_excepted_is_not_superfluous_and_one_for_what_is_not_is() -> None:
    assert "EP007" not in lint_codes(PUBLIC)
    assert "EP007" in lint_codes(PUBLIC.replace('except: ["private/**", "secret"], ', ""))


def test_an_except_outside_the_grammar_of_names_is_found() -> None:
    assert "EP011" not in lint_codes(PUBLIC)
    assert "EP011" in lint_codes(PUBLIC.replace('"secret"', '"Secret"'))
