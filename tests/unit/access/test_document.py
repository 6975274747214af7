from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from edgeproxy.access.document import json_schema
from edgeproxy.access.fields import moment
from edgeproxy.access.parsing import parse
from edgeproxy.access.policy import Policy, PolicyError, load_policy
from edgeproxy.access.rules import Discovery, InlineKeys, KeysUrl
from edgeproxy.access.source import MAX_BYTES, MAX_DEPTH, MAX_NODES

FILES = {
    "jwks.json": b'{"keys": [{"kty": "EC", "kid": "a"}]}',
    "private.json": b'{"keys": [{"kty": "EC", "d": "c2VjcmV0LXZhbHVl"}]}',
    "shared.json": b'{"keys": [{"kty": "oct", "k": "c2VjcmV0LXZhbHVl"}]}',
    "none.json": b'{"keys": []}',
    "broken.json": b"{",
    "ca.pem": b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    "text.pem": b"certificate",
}


def file(name: str) -> bytes:
    if name not in FILES:
        raise FileNotFoundError(2, "No such file or directory", name)
    return FILES[name]


def load(text: str | bytes, *, loopback: bool = False) -> Policy:
    content = text.encode() if isinstance(text, str) else text
    return load_policy(content, source="policy.yaml", loopback=loopback, now=0, files=file)


def refused(text: str | bytes, *, loopback: bool = False) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(text, loopback=loopback)
    return caught.value


ISSUER = '  ci: {url: "https://ci.example.com", audiences: [registry]}'
RULE = "  - {name: a, issuer: ci, match: {sub: x}, allow: [{repositories: [acme/app], actions: [pull]}]}"


def issuer(fields: str) -> str:
    return f"version: 1\nissuers:\n  ci: {{{fields}}}"


def rule(match: str = "match: {sub: x}", allow: str = "{repositories: [a], actions: [pull]}", more: str = "") -> str:
    return f"version: 1\nissuers:\n{ISSUER}\nrules:\n  - {{name: a, issuer: ci, {match}, allow: [{allow}]{more}}}"


def deny(fields: str) -> str:
    return f"version: 1\nissuers:\n{ISSUER}\ndeny:\n  - {{{fields}}}"


def condition(text: str) -> str:
    return rule(match=f"match: {{sub: {text}}}")


def keys(text: str) -> str:
    return issuer(f'url: "https://ci.example.com", audiences: [r], keys: {{{text}}}')


URL = '"https://ci.example.com"'

REFUSALS = [
    # why, line, part of the message, refused, accepted one step away
    ("an empty file", 1, "empty", "", "version: 1"),
    ("only a comment", 1, "empty", "# nothing\n", "# nothing\nversion: 1"),
    ("a list", 1, "expected a mapping", "- version: 1", "version: 1"),
    ("no version", 1, "field `version` is missing", "hide: [a]", "version: 1\nhide: [a]"),
    ("another version", 1, "Input should be 1", "version: 2", "version: 1"),
    ("a boolean version", 1, "expected a number", "version: true", "version: 1"),
    ("a quoted version", 1, "Input should be 1", 'version: "1"', "version: 1"),
    ("an unknown section", 2, "did you mean `rules`", "version: 1\nrule: []", "version: 1\nrules: []"),
    ("an unknown field of an issuer", 3, "did you mean `algorithms`", issuer(f"url: {URL}, audiences: [r], algoritms: [RS256]"), issuer(f"url: {URL}, audiences: [r], algorithms: [RS256]")),
    ("an unknown field of a rule", 5, "did you mean `expires`", rule(more=", expire: 2027-01-01"), rule(more=", expires: 2027-01-01")),
    ("an unknown field of an allow", 5, "unknown field `tags`", rule(allow="{repositories: [a], actions: [pull], tags: [v1]}"), rule()),
    ("duplicate keys", 2, "appears twice", "version: 1\nversion: 1", "version: 1"),
    ("duplicate claims", 5, "key `sub` appears twice", rule(match="match: {sub: x, sub: y}"), rule(match="match: {sub: x, aud: y}")),
    ("duplicate issuers", 4, "key `ci` appears twice", f"version: 1\nissuers:\n{ISSUER}\n{ISSUER}", f"version: 1\nissuers:\n{ISSUER}"),
    ("an alias", 3, "alias", "version: 1\nhide: &h [a]\ntags: *h", "version: 1\nhide: [a]"),
    ("an anchor", 2, "anchor", "version: 1\nhide: &h [a]", "version: 1\nhide: [a]"),
    ("a tag", 2, "tag `tag:yaml.org,2002:python/tuple`", "version: 1\nhide: !!python/tuple [a]", "version: 1\nhide: [a]"),
    ("a string tag", 5, "tag", condition("!!str 5"), condition('"5"')),
    ("a second document", 2, "second document", "version: 1\n---\nversion: 1", "---\nversion: 1"),
    ("broken YAML", 2, "not YAML", "version: 1\nhide: [a", "version: 1\nhide: [a]"),
    ("a tabulator", 2, "not YAML", "hide:\n\t- a\nversion: 1", "hide:\n  - a\nversion: 1"),
    ("a control character", 1, "not YAML", "version: 1\nhide: [\x01]", "version: 1\nhide: [a]"),
    ("not UTF-8", 2, "not UTF-8", b"version: 1\nhide: [\xff]", "version: 1\nhide: [ä]"),
    ("half a surrogate pair", 5, "", condition('"\\ud800"'), condition('"\\u00e4"')),
    ("a key that is no string", 5, "key `1` is not a string", rule(match="match: {1: x}"), rule(match='match: {"1": x}')),
    ("a key that is a list", 2, "key must be a plain string", "version: 1\n? [a]\n: b", "version: 1"),
    ("an empty section", 2, "this is empty", "version: 1\nrules:", "version: 1\nrules: []"),
    ("an empty field", 5, "this is empty", rule(more=", expires: "), rule()),
    ("no as a value", 5, "YAML readers disagree on `no`", condition("no"), condition('"no"')),
    ("On as a value", 5, "YAML readers disagree", condition("On"), condition("true")),
    ("a hexadecimal number", 5, "YAML readers disagree", condition("0x10"), condition("16")),
    ("a leading zero", 5, "YAML readers disagree", condition("010"), condition('"010"')),
    ("an underscore in a number", 5, "YAML readers disagree", condition("1_000"), condition("1000")),
    ("an exponent", 5, "YAML readers disagree", condition("12e45"), condition('"12e45"')),
    ("base sixty", 5, "YAML readers disagree", condition("12:30:45"), condition('"12:30:45"')),
    ("infinity", 5, "YAML readers disagree", condition(".inf"), condition("1.5")),
    ("a number beyond 18 digits", 5, "YAML readers disagree", condition("1" * 40), condition(f'"{"1" * 40}"')),
    # issuers
    ("an issuer without URL", 3, "field `url` is missing", issuer("audiences: [r]"), issuer(f"url: {URL}, audiences: [r]")),
    ("no audience", 3, "this is empty", issuer(f"url: {URL}, audiences: []"), issuer(f"url: {URL}, audiences: [r]")),
    ("an empty audience", 3, "this is empty", issuer(f'url: {URL}, audiences: [""]'), issuer(f"url: {URL}, audiences: [r]")),
    ("an audience that is no list", 3, "expected a list", issuer(f"url: {URL}, audiences: r"), issuer(f"url: {URL}, audiences: [r]")),
    ("HMAC", 3, "Input should be 'RS256'", issuer(f"url: {URL}, audiences: [r], algorithms: [HS256]"), issuer(f"url: {URL}, audiences: [r], algorithms: [ES256]")),
    ("the algorithm none", 3, "Input should be 'RS256'", issuer(f"url: {URL}, audiences: [r], algorithms: [none]"), issuer(f"url: {URL}, audiences: [r], algorithms: [EdDSA]")),
    ("no algorithm", 3, "this is empty", issuer(f"url: {URL}, audiences: [r], algorithms: []"), issuer(f"url: {URL}, audiences: [r]")),
    ("another scheme", 3, "expected a URL", issuer('url: "file:///etc/passwd", audiences: [r]'), issuer(f"url: {URL}, audiences: [r]")),
    ("a user in the URL", 3, "no user name", issuer('url: "https://ci.example.com@evil.example", audiences: [r]'), issuer(f"url: {URL}, audiences: [r]")),
    ("a query in the URL", 3, "no user name, query", issuer('url: "https://ci.example.com/?a", audiences: [r]'), issuer('url: "https://ci.example.com/a", audiences: [r]')),
    ("a fragment in the URL", 3, "no user name, query", issuer('url: "https://ci.example.com/#a", audiences: [r]'), issuer('url: "https://ci.example.com/", audiences: [r]')),
    ("a backslash in the URL", 3, "no user name", issuer("url: 'https://ci.example.com\\a', audiences: [r]"), issuer(f"url: {URL}, audiences: [r]")),
    ("unicode in the URL", 3, "expected a URL", issuer('url: "https://c\u0131.example.com", audiences: [r]'), issuer(f"url: {URL}, audiences: [r]")),
    ("no host", 3, "expected a URL", issuer('url: "https://", audiences: [r]'), issuer(f"url: {URL}, audiences: [r]")),
    ("a port that is none", 3, "not a URL", issuer('url: "https://ci.example.com:x", audiences: [r]'), issuer('url: "https://ci.example.com:8443", audiences: [r]')),
    ("a URL too long", 3, "at most 255", issuer(f'url: "https://ci.example.com/{"a" * 250}", audiences: [r]'), issuer(f'url: "https://ci.example.com/{"a" * 200}", audiences: [r]')),
    ("discovery over http", 3, "over https", issuer('url: "http://ci.example.com", audiences: [r]'), issuer('url: "http://127.0.0.1:8080", audiences: [r]')),
    ("http with a loopback look-alike", 3, "over https", issuer('url: "http://127.0.0.1.example.com", audiences: [r]'), issuer('url: "http://localhost", audiences: [r]')),
    ("keys over http", 3, "keys come over https", keys('url: "http://ci.example.com/k"'), keys('url: "http://[::1]:80/k"')),
    ("the same URL twice", 4, "issuer `ci` already", f"version: 1\nissuers:\n{ISSUER}\n{ISSUER.replace('ci:', 'other:')}", f"version: 1\nissuers:\n{ISSUER}\n{ISSUER.replace('ci:', 'other:').replace('ci.', 'other.')}"),
    ("two key sources", 3, "exactly one of", keys('url: "https://a.example/k", file: jwks.json'), keys("file: jwks.json")),
    ("no key source", 3, "exactly one of", keys("not_after: 2027-01-01"), keys("file: jwks.json, not_after: 2027-01-01")),
    ("a missing key file", 3, "No such file", keys("file: other.json"), keys("file: jwks.json")),
    ("a key file that is no JSON", 3, "not a JWKS", keys("file: broken.json"), keys("file: jwks.json")),
    ("a key file without keys", 3, "not a JWKS", keys("file: none.json"), keys("file: jwks.json")),
    ("private keys", 3, "private or shared", keys("file: private.json"), keys("file: jwks.json")),
    ("shared keys", 3, "private or shared", keys("file: shared.json"), keys("file: jwks.json")),
    ("inline keys that are none", 3, "not a JWKS", keys("inline: {keys: [5]}"), keys("inline: {keys: [{kty: EC}]}")),
    ("a missing certificate", 3, "No such file", issuer(f"url: {URL}, audiences: [r], ca_file: other.pem"), issuer(f"url: {URL}, audiences: [r], ca_file: ca.pem")),
    ("a certificate that is none", 3, "no PEM certificate", issuer(f"url: {URL}, audiences: [r], ca_file: text.pem"), issuer(f"url: {URL}, audiences: [r], ca_file: ca.pem")),
    ("an age in words", 3, "pattern", issuer(f"url: {URL}, audiences: [r], max_token_age: hour"), issuer(f"url: {URL}, audiences: [r], max_token_age: 1h")),
    ("an age of nothing", 3, "greater than or equal to 1", issuer(f"url: {URL}, audiences: [r], max_token_age: 0"), issuer(f"url: {URL}, audiences: [r], max_token_age: 1")),
    ("a login without client", 3, "field `client_id` is missing", issuer(f"url: {URL}, audiences: [r], login: {{}}"), issuer(f"url: {URL}, audiences: [r], login: {{client_id: c}}")),
    # rules
    ("a rule about nobody", 5, "exactly one of match", "version: 1\nissuers:\n" + ISSUER + "\nrules:\n  - {name: a, issuer: ci, allow: [{repositories: [a], actions: [pull]}]}", rule()),
    ("two matches", 5, "exactly one of match", rule(match='match: {sub: x}, github: {repository_id: "1"}'), rule(match='github: {repository_id: "1"}')),
    ("an empty match", 5, "this is empty", rule(match="match: {}"), rule()),
    ("an empty string", 5, "this is empty", condition('""'), condition('" "')),
    ("an empty list", 5, "this is empty", condition("[]"), condition("[x]")),
    ("an empty string in a list", 5, "this is empty", condition('[x, ""]'), condition("[x, y]")),
    ("an empty glob", 5, "this is empty", condition('{glob: ""}'), condition('{glob: "*"}')),
    ("an empty regex", 5, "this is empty", condition('{regex: ""}'), condition('{regex: "a"}')),
    ("null", 5, "this is empty", condition("null"), condition('"null"')),
    ("an unknown match form", 5, "expected a string, number or boolean", condition("{prefix: a}"), condition("{glob: a}")),
    ("two match forms", 5, "unknown field `regex`", condition("{glob: a, regex: a}"), condition("{regex: a}")),
    ("a list in a list", 5, "expected a string, number or boolean", condition("[[x]]"), condition("[{glob: x}]")),
    ("a broken regex", 5, "RE2 does not accept this regex: missing )", condition('{regex: "("}'), condition('{regex: "()x"}')),
    ("a back reference", 5, "RE2 does not accept", condition("{regex: '(a)\\1'}"), condition("{regex: '(a)a'}")),
    ("a look-ahead", 5, "RE2 does not accept", condition('{regex: "(?=a)a"}'), condition('{regex: "(?:a)a"}')),
    ("a regex that explodes", 5, "RE2 does not accept", condition('{regex: "((a{100}){100}){100}"}'), condition('{regex: "((a{10}){10})"}')),
    ("a regex too long", 5, "at most 1000", condition(f'{{regex: "{"a" * 1001}"}}'), condition(f'{{regex: "{"a" * 1000}"}}')),
    ("an unknown issuer", 5, "did you mean `ci`", rule().replace("issuer: ci", "issuer: cii"), rule()),
    ("the same name twice", 6, "used twice", rule() + "\n" + RULE, rule() + "\n" + RULE.replace("name: a", "name: b")),
    ("the same name in deny", 7, "used twice", rule() + "\ndeny:\n  - {name: a, repositories: [a], actions: [pull]}", rule() + "\ndeny:\n  - {name: b, repositories: [a], actions: [pull]}"),
    ("the name public", 5, "choose another", rule().replace("name: a", "name: public"), rule().replace("name: a", "name: public-x")),
    ("a name with a line break", 5, "pattern", rule().replace("name: a", 'name: "a\\nb"'), rule().replace("name: a", 'name: "a b"')),
    ("no allow", 5, "this is empty", rule().replace("[{repositories: [a], actions: [pull]}]", "[]"), rule()),
    ("no repositories", 5, "this is empty", rule(allow="{repositories: [], actions: [pull]}"), rule()),
    ("an empty repository", 5, "this is empty", rule(allow='{repositories: [""], actions: [pull]}'), rule()),
    ("no actions", 5, "this is empty", rule(allow="{repositories: [a], actions: []}"), rule()),
    ("an unknown action", 5, "'pull', 'push', 'delete' or 'catalog'", rule(allow="{repositories: [a], actions: [write]}"), rule(allow="{repositories: [a], actions: [catalog]}")),
    ("an unknown mode", 5, "'enforce' or 'audit'", rule(more=", mode: dry-run"), rule(more=", mode: audit")),
    ("an unknown delivery", 5, "'redirect' or 'proxy'", rule(more=", deliver: mirror"), rule(more=", deliver: proxy")),
    ("a life too short", 5, "60 seconds to 1 day", rule(more=", token_seconds: 59"), rule(more=", token_seconds: 60")),
    ("a life too long", 5, "60 seconds to 1 day", rule(more=", token_seconds: 86401"), rule(more=", token_seconds: 1d")),
    ("a boolean life", 5, "valid integer", rule(more=", token_seconds: true"), rule(more=", token_seconds: 3600")),
    ("a date that is none", 5, "expected a date", rule(more=", expires: 2027-02-30"), rule(more=", expires: 2027-02-28")),
    ("a time without offset", 5, "needs its offset", rule(more=', expires: "2027-01-01T00:00:00"'), rule(more=', expires: "2027-01-01T00:00:00Z"')),
    ("a github form without ids", 5, "repository_id or owner_id", rule(match="github: {ref: refs/heads/main}"), rule(match="github: {owner_id: 5, ref: refs/heads/main}")),
    ("a github id that is a name", 5, "pattern", rule(match="github: {repository_id: acme/app}"), rule(match='github: {repository_id: "81"}')),
    ("a gitlab form without ids", 5, "project_id or namespace_id", rule(match="gitlab: {ref: main}"), rule(match="gitlab: {project_id: 5, ref: main}")),
    ("a kubernetes form without namespace", 5, "field `namespace` is missing", rule(match="kubernetes: {service_account: x}"), rule(match="kubernetes: {namespace: x}")),
    ("a kubernetes name with a wildcard", 5, "pattern", rule(match='kubernetes: {namespace: "prod-*"}'), rule(match='kubernetes: {namespace: {glob: "prod-*"}}')),
    ("a kubernetes name with a colon", 5, "pattern", rule(match='kubernetes: {namespace: "a:b"}'), rule(match="kubernetes: {namespace: a-b}")),
    ("a kubernetes glob that crosses", 5, "pattern", rule(match='kubernetes: {namespace: {glob: "**"}}'), rule(match='kubernetes: {namespace: {glob: "*"}}')),
    # deny, public, tags, tests
    ("a denial without a name", 5, "field `name` is missing", deny("repositories: [a], actions: [pull]"), deny("name: d, repositories: [a], actions: [pull]")),
    ("a denial with two matches", 5, "at most one", deny("name: d, match: {sub: x}, github: {owner_id: 1}, repositories: [a], actions: [pull]"), deny("name: d, match: {sub: x}, repositories: [a], actions: [pull]")),
    ("a denial of an unknown issuer", 5, "not under `issuers`", deny("name: d, issuer: x, repositories: [a], actions: [pull]"), deny("name: d, issuer: ci, repositories: [a], actions: [pull]")),
    ("public push", 2, "may not carry push", "version: 1\npublic: [{repositories: [a], actions: [pull, push]}]", "version: 1\npublic: [{repositories: [a], actions: [pull]}]"),
    ("public delete", 2, "may not carry delete", "version: 1\npublic: [{repositories: [a], actions: [delete]}]", "version: 1\npublic: [{repositories: [a], actions: [catalog]}]"),
    ("tags that are not immutable", 2, "True", "version: 1\ntags: [{repositories: [a], tags: [v1], immutable: false}]", "version: 1\ntags: [{repositories: [a], tags: [v1], immutable: true}]"),
    ("tags with a number for true", 2, "expected true", "version: 1\ntags: [{repositories: [a], tags: [v1], immutable: 1}]", "version: 1\ntags: [{repositories: [a], tags: [v1], immutable: true}]"),
    ("a test of no repository", 2, "not valid", "version: 1\ntests: [{repository: A, action: pull, expect: deny}]", "version: 1\ntests: [{repository: a, action: pull, expect: deny}]"),
    ("a test with claims of nobody", 2, "need an `issuer`", "version: 1\ntests: [{claims: {a: b}, repository: a, action: pull, expect: deny}]", "version: 1\ntests: [{repository: a, action: pull, expect: deny}]"),
    ("a test that expects something else", 2, "'allow' or 'deny'", "version: 1\ntests: [{repository: a, action: pull, expect: maybe}]", "version: 1\ntests: [{repository: a, action: pull, expect: allow}]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message", "bad", "good"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_a_document_is_refused_with_its_line_and_its_twin_is_not(
    line: int, message: str, bad: str | bytes, good: str
) -> None:
    problems = refused(bad).problems

    assert any(problem.line == line and message in problem.message for problem in problems), problems
    assert all(str(problem).startswith(f"policy.yaml:{problem.line}: ") for problem in problems)
    load(good)


@pytest.mark.parametrize(
    ("line", "bad", "good"), [(row[1], row[3], row[4]) for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_the_reader_in_plain_python_refuses_the_same(
    monkeypatch: pytest.MonkeyPatch, line: int, bad: str | bytes, good: str
) -> None:
    monkeypatch.setattr("edgeproxy.access.source._LOADER", yaml.SafeLoader)

    assert line in [problem.line for problem in refused(bad).problems]
    load(good)


@pytest.mark.parametrize("bad", [row[3] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_one_mistake_is_told_once(bad: str | bytes) -> None:
    problems = refused(bad).problems

    assert len({(problem.line, problem.where, problem.message) for problem in problems}) == len(problems)
    assert len(problems) <= 3


def test_all_problems_are_told_together_and_by_line() -> None:
    error = refused(
        f"version: 1\nissuers:\n{ISSUER}\nrules:\n"
        "  - {name: a, issuer: nobody, match: {sub: x}, allow: [{repositories: [a], actions: [pull]}]}\n"
        "  - {name: b, issuer: ci, match: {sub: no}, allow: [{repositories: [a], actions: [write]}]}\n"
        "public: [{repositories: [a], actions: [push]}]\n"
        "hide: 5\n"
    )

    assert [(problem.line, problem.where) for problem in error.problems] == [
        (5, "rules[0].issuer"),
        (6, "rules[1].match"),
        (6, "rules[1].allow[0].actions[0]"),
        (7, "public[0].actions"),
        (8, "hide"),
    ]
    assert str(error).splitlines()[0].startswith("policy.yaml:5: rules[0].issuer: issuer `nobody`")


def test_public_may_carry_push_where_only_this_machine_can_ask() -> None:
    text = "version: 1\npublic: [{repositories: [a], actions: [pull, push, delete]}]"

    assert refused(text, loopback=False)
    assert load(text, loopback=True).public[0].actions == {"pull", "push", "delete"}


def test_a_document_is_bounded_in_size() -> None:
    head = b"version: 1\n#"

    assert "larger than" in str(refused(head + b"x" * MAX_BYTES))
    assert load(head + b"x" * (MAX_BYTES - len(head)))


def test_a_document_is_bounded_in_depth() -> None:
    def nested(levels: int) -> str:
        return (
            "version: 1\ntests: [{issuer: x, claims: {a: "
            + "[" * levels
            + "]" * levels
            + "}, repository: a, action: pull, expect: deny}]"
        )

    assert f"deeper than {MAX_DEPTH}" in str(refused(nested(100_000)))
    assert "deeper" not in str(refused(nested(MAX_DEPTH - 4)))


def test_a_document_is_bounded_in_the_number_of_its_values() -> None:
    def many(count: int) -> str:
        return "version: 1\nhide: [" + "a," * count + "]"

    assert f"more than {MAX_NODES} values" in str(refused(many(MAX_NODES)))
    assert len(load(many(1000)).hide) == 1000


def test_messages_never_repeat_key_material() -> None:
    for name in ("private.json", "shared.json"):
        assert "c2VjcmV0" not in str(refused(keys(f"file: {name}")))


def test_files_are_refused_where_there_are_none_beside_the_document() -> None:
    text = keys("file: jwks.json").encode()

    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(text, source="store", loopback=False, now=0)


def test_issuers_carry_what_the_verifier_needs() -> None:
    policy = load(
        "version: 1\nissuers:\n"
        '  plain: {url: "https://a.example", audiences: [x, y]}\n'
        '  url: {url: "https://b.example", audiences: [x], algorithms: [ES384], keys: {url: "https://b.example/k"}}\n'
        '  file: {url: "https://c.example", audiences: [x], max_token_age: 1h, ca_file: ca.pem,\n'
        "         keys: {file: jwks.json, not_after: 2027-06-30}, login: {client_id: cli}}\n"
    )

    plain, url, file_issuer = policy.issuers["plain"], policy.issuers["url"], policy.issuers["file"]
    assert (plain.name, plain.url, plain.audiences, plain.keys) == (
        "plain",
        "https://a.example",
        ("x", "y"),
        Discovery(),
    )
    assert plain.algorithms == ("RS256", "PS256", "ES256", "ES384", "EdDSA")
    assert (url.algorithms, url.keys) == (("ES384",), KeysUrl("https://b.example/k", None))
    assert file_issuer.keys == InlineKeys({"keys": [{"kty": "EC", "kid": "a"}]}, moment("2027-06-30"))
    assert (file_issuer.max_token_age, file_issuer.ca, file_issuer.login) == (3600, FILES["ca.pem"], "cli")
    assert policy.lists_issuers
    assert not load("version: 1").lists_issuers


def test_an_expired_rule_still_loads() -> None:
    assert load(rule(more=", expires: 2020-01-01")).rules[0].expires == moment("2020-01-01")


def test_a_date_is_its_first_moment_in_utc() -> None:
    assert moment("1970-01-02") == 86400
    assert moment("1970-01-01T01:00:00+01:00") == 0


def test_values_keep_the_type_that_was_written() -> None:
    parsed = parse(condition('[a, "1", 1, 1.5, true, "true", 2027-01-01]').encode(), source="p", loopback=False)

    assert parsed.document.rules[0].match == {"sub": ("a", "1", 1, 1.5, True, "true", "2027-01-01")}
    match = parsed.document.rules[0].match
    assert match is not None
    values = match["sub"]
    assert isinstance(values, tuple)
    assert [type(value) for value in values] == [str, str, int, float, bool, str, str]


def test_the_version_is_the_hash_of_the_bytes() -> None:
    assert load("version: 1").version != load("version: 1 ").version
    assert re.fullmatch(r"[0-9a-f]{64}", load("version: 1").version)


# The schema, read by a small validator of the keywords that it uses, so that it is held against the loader's own verdicts.


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return conforms(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    return all(check(value, schema, root) for check in CHECKS)


def of_type(value: Any, name: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds: dict[str, bool] = {
        "object": isinstance(value, dict), "array": isinstance(value, list), "string": isinstance(value, str),
        "boolean": isinstance(value, bool), "number": number, "integer": number and value == int(value),
    }  # fmt: skip
    return kinds[name]


def same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


CHECKS: list[Callable[[Any, dict[str, Any], dict[str, Any]], bool]] = [
    lambda value, schema, _: "type" not in schema or of_type(value, schema["type"]),
    lambda value, schema, _: "const" not in schema or same(value, schema["const"]),
    lambda value, schema, _: "enum" not in schema or any(same(value, item) for item in schema["enum"]),
    lambda value, schema, root: all(conforms(value, item, root) for item in schema.get("allOf", [])),
    lambda value, schema, root: "anyOf" not in schema or any(conforms(value, item, root) for item in schema["anyOf"]),
    lambda value, schema, root: "oneOf" not in schema or sum(conforms(value, item, root) for item in schema["oneOf"]) == 1,
    lambda value, schema, root: "not" not in schema or not conforms(value, schema["not"], root),
    lambda value, schema, _: not isinstance(value, dict) or all(key in value for key in schema.get("required", [])),
    lambda value, schema, _: not isinstance(value, dict) or len(value) >= schema.get("minProperties", 0),
    lambda value, schema, root: not isinstance(value, dict) or all(fits(key, item, schema, root) for key, item in value.items()),
    lambda value, schema, root: not isinstance(value, dict) or all(conforms(key, schema.get("propertyNames", {}), root) for key in value),
    lambda value, schema, _: not isinstance(value, list) or schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9),
    lambda value, schema, root: not isinstance(value, list) or all(conforms(item, schema.get("items", {}), root) for item in value),
    lambda value, schema, _: not isinstance(value, str) or schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9),
    lambda value, schema, _: not isinstance(value, str) or re.search(schema.get("pattern", ""), value) is not None,
    lambda value, schema, _: not of_type(value, "number") or schema.get("minimum", value) <= value <= schema.get("maximum", value),
]  # fmt: skip


def fits(key: str, item: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if key in schema.get("properties", {}):
        return conforms(item, schema["properties"][key], root)
    patterns = [sub for pattern, sub in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
    if patterns:
        return all(conforms(item, sub, root) for sub in patterns)
    more = schema.get("additionalProperties", True)
    return more if isinstance(more, bool) else conforms(item, more, root)


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    schema = json_schema()

    for why, _, _, _, good in REFUSALS:
        assert conforms(plain(good), schema, schema), why


STRUCTURAL = {
    "no version", "another version", "a boolean version", "a quoted version", "an unknown section", "an unknown field of an issuer",
    "an unknown field of a rule", "an unknown field of an allow", "an issuer without URL", "no audience", "an empty audience",
    "an audience that is no list", "HMAC", "the algorithm none", "no algorithm", "another scheme", "two key sources", "no key source",
    "an age in words", "an age of nothing", "a login without client", "a rule about nobody", "two matches", "an empty match",
    "an empty string", "an empty list", "an empty string in a list", "an empty glob", "an empty regex", "null", "an unknown match form",
    "two match forms", "a list in a list", "a regex too long", "a name with a line break", "no allow", "no repositories",
    "an empty repository", "no actions", "an unknown action", "an unknown mode", "an unknown delivery", "a boolean life",
    "a github form without ids", "a github id that is a name", "a gitlab form without ids", "a kubernetes form without namespace",
    "a kubernetes name with a wildcard", "a kubernetes name with a colon", "a kubernetes glob that crosses", "a denial without a name",
    "a denial with two matches", "tags that are not immutable", "tags with a number for true", "a test that expects something else",
    "an empty section", "an empty field", "a list",
}  # fmt: skip


@pytest.mark.parametrize(("why", "bad"), [(row[0], row[3]) for row in REFUSALS if row[0] in STRUCTURAL])
def test_the_schema_refuses_what_is_wrong_in_structure(why: str, bad: str) -> None:
    schema = json_schema()

    assert not conforms(plain(bad), schema, schema), why


def plain(text: str) -> Any:
    from edgeproxy.access.source import read

    return read(text.encode(), "p")[0].value


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_every_field_of_the_schema_is_described_and_no_other_is_allowed() -> None:
    schema = json_schema()
    described = [found for found in objects(schema) if "properties" in found]

    assert len(described) >= 12
    assert all(found["additionalProperties"] is False for found in described)
    assert [
        name for found in described for name, field in found["properties"].items() if "description" not in field
    ] == []
    assert json.loads(json.dumps(schema)) == schema
