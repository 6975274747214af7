from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.access.decisions import Claim
from edgeproxy.access.matching import Condition, NameGlob, TextPattern, check_regex, scalar_key, shown


def matches(claim: Claim, *values: str | float, glob: str = "", regex: str = "") -> bool:
    patterns = [TextPattern("glob", glob)] if glob else []
    patterns += [TextPattern("regex", regex)] if regex else []
    return Condition("c", values, tuple(patterns)).matched({"c": claim}) is not None


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [
        ("main", "main", "main "),
        ("main", "main", "Main"),
        ("main", "main", "main\n"),
        ("main", ["x", "main"], ["x", "maine"]),
        ("main", ["main"], [["main"]]),
        ("main", "main", {"main": "main"}),
        ("true", "true", True),
        (True, True, "true"),
        (True, True, 1),
        (True, True, 1.0),
        (False, False, 0),
        (1, 1, True),
        (1, 1.0, "1"),
        (1.5, 1.5, "1.5"),
        ("1", "1", 1),
        (1, [2, 1], [2, True]),
        (9007199254740993, 9007199254740993, 9007199254740992.0),
    ],
)
def test_a_scalar_is_compared_whole_and_by_type(wanted: str | float, yes: Claim, no: Claim) -> None:
    assert matches(yes, wanted)
    assert not matches(no, wanted)


@pytest.mark.parametrize("value", [None, "", [], {}, [None], [""], [[]]])
def test_what_is_missing_or_empty_matches_nothing(value: Claim) -> None:
    assert not matches(value, "x", glob="**", regex=".*")
    assert Condition("c", ("x",), ()).matched({}) is None
    assert matches(["", "x"], "x")


def test_a_list_of_the_document_is_any_of() -> None:
    assert matches("b", "a", "b")
    assert not matches("c", "a", "b")
    assert matches("refs/heads/x", "a", glob="refs/heads/*")
    assert not matches("refs/tags/x", "a", glob="refs/heads/*")


def test_the_element_that_matched_is_told() -> None:
    assert Condition("groups", ("oncall",), ()).matched({"groups": ["all", "oncall"]}) == "oncall"
    assert Condition("flag", (False,), ()).matched({"flag": False}) is False


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("refs/tags/v*", "refs/tags/v1.2", "refs/tags/v1/evil"),
        ("refs/tags/v*", "refs/tags/v", "xrefs/tags/v1"),
        ("refs/tags/v*", "refs/tags/v1", "refs/tags/w1"),
        ("system:serviceaccount:prod-*:*", "system:serviceaccount:prod-a:b", "system:serviceaccount:prod-a:b:c"),
        ("system:serviceaccount:prod-*:x", "system:serviceaccount:prod-a:x", "system:serviceaccount:prod-a:y:x"),
        ("repo:acme/**", "repo:acme/app:ref:refs/heads/main", "repo:acme-evil/app:ref:refs/heads/main"),
        ("a.c", "a.c", "abc"),
        ("a[b]?", "a[b]?", "ab"),
        ("a|b", "a|b", "a"),
        ("*", "line\nbreak", "a/b"),
        ("**", "a/b:c\nd", ""),
    ],
)
def test_a_glob_of_a_claim_is_literal_but_for_its_stars(glob: str, yes: str, no: str) -> None:
    assert matches(yes, glob=glob)
    assert not matches(no, glob=glob)


@pytest.mark.parametrize(
    ("regex", "yes", "no"),
    [
        ("refs/heads/(main|release)", "refs/heads/main", "refs/heads/main-evil"),
        ("main|master", "master", "main-evil"),
        ("main|master", "main", "evil-master"),
        ("^main$", "main", "main\n"),
        ("v[0-9]+", "v12", "v12 "),
        ("(?i)main", "MAIN", "MAINE"),
        ("a.c", "abc", "a\nc"),
        ("colou?r", "color", "colr"),
        ("ab*", "a", "c"),
        ("ab{0,1}", "a", "abb"),
    ],
)
def test_a_regex_is_matched_against_the_whole_value(regex: str, yes: str, no: str) -> None:
    assert matches(yes, regex=regex)
    assert not matches(no, regex=regex)


@pytest.mark.parametrize("value", [1, True, 1.5, {"a": "b"}])
def test_patterns_match_strings_only(value: Claim) -> None:
    assert not matches(value, glob="**", regex="(?s).*")
    assert matches(str(value), glob="**")


def test_half_a_surrogate_pair_matches_no_pattern() -> None:
    assert not matches("\ud800", glob="**")
    assert not matches("\ud800", regex=".*")
    assert matches("\U00010000", regex=".")
    assert shown("\ud800") == "'\\ud800'"


@pytest.mark.parametrize("regex", ["(", r"(a)\1", "(?=a)", "(?<!a)b", "a{1001}", "((a{100}){100}){100}", "(?>a)"])
def test_a_regex_beyond_linear_time_or_its_budget_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match="RE2 does not accept"):
        check_regex(regex)


def test_a_pattern_that_ruins_backtracking_engines_is_answered() -> None:
    assert not matches("a" * 5000 + "b", regex="(a*)*c")
    assert not matches("a" * 5000, glob="*a" * 40 + "b")
    assert matches("a" * 5000, regex="(a*)*")


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("acme/app", "acme/app", "acme/app/web"),
        ("acme/app", "acme/app", "acme/ap"),
        ("acme/*", "acme/app", "acme/app/web"),
        ("acme/*", "acme/app", "acme"),
        ("acme/**", "acme/app/web", "acme"),
        ("acme/**", "acme/app", "acme-evil/app"),
        ("acme/*/web", "acme/app/web", "acme/a/b/web"),
        ("acme/**/web", "acme/a/b/web", "acme/web"),
        ("**/web", "a/b/web", "web"),
        ("app-*", "app-", "apps"),
        ("app**", "app/x", "ap"),
        ("*", "app", "acme/app"),
        ("a*/b*", "ax/by", "ax/cy"),
        ("a***", "a/b", "b/a"),
        ("v1.*", "v1.2", "v102"),
    ],
)
def test_a_star_stays_within_one_component_and_two_cross(glob: str, yes: str, no: str) -> None:
    assert NameGlob(glob).matches(yes)
    assert not NameGlob(glob).matches(no)


@given(st.text("ab/*", min_size=1, max_size=8), st.text("ab/", max_size=8))
def test_a_glob_of_names_is_what_its_translation_says(glob: str, name: str) -> None:
    model = re.sub(r"\*+", lambda stars: ".*" if len(stars[0]) > 1 else "[^/]*", glob)

    assert NameGlob(glob).matches(name) == (re.fullmatch(model, name) is not None)


@given(st.text("ab/:*", min_size=1, max_size=8), st.text("ab/:", min_size=1, max_size=8))
def test_a_glob_of_claims_is_what_its_translation_says(glob: str, value: str) -> None:
    model = re.sub(r"\*+", lambda stars: ".*" if len(stars[0]) > 1 else "[^/:]*", glob)

    assert TextPattern("glob", glob).matches(value) == (re.fullmatch(model, value) is not None)


@given(st.text("ab/()|*+?{}12,.^$[]\\", min_size=1, max_size=8), st.text("ab/12", max_size=5))
def test_the_beginning_found_in_a_regex_never_changes_its_answer(regex: str, value: str) -> None:
    try:
        pattern = TextPattern("regex", regex)
    except ValueError:
        return
    options = re2.Options()
    options.log_errors = False

    assert pattern.matches(value) == (re2.fullmatch(regex, value, options) is not None)


@given(
    st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans()),
    st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans()),
)
def test_values_are_the_same_key_only_if_they_are_of_one_kind_and_equal(one: str | float, other: str | float) -> None:
    kinds = [str if isinstance(value, str) else bool if isinstance(value, bool) else float for value in (one, other)]
    equal = kinds[0] is kinds[1] and one == other and one != ""

    assert (scalar_key(one) is not None and scalar_key(one) == scalar_key(other)) == equal
