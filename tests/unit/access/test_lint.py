from __future__ import annotations

import pytest

from edgeproxy.access.fields import moment
from edgeproxy.access.lint import SOON, Finding, lint
from edgeproxy.access.policy import PolicyError

NOW = moment("2026-06-01")
FILES = {"jwks.json": b'{"keys": [{"kty": "EC"}]}'}


def findings(text: str, *, now: float = NOW) -> tuple[Finding, ...]:
    return lint(text.encode(), source="policy.yaml", now=now, files=FILES.__getitem__)


def document(
    rule: str = "", more: str = "", issuer: str = "gh", url: str = "https://token.actions.githubusercontent.com"
) -> str:
    rules = f"rules:\n  - {{name: a, issuer: {issuer}, {rule}}}\n" if rule else ""
    return f'version: 1\nissuers:\n  {issuer}: {{url: "{url}", audiences: [r]}}\n{rules}{more}'


def github(match: str, actions: str = "[pull]", repositories: str = "[acme/app]", more: str = "") -> str:
    return document(f"match: {{{match}}}, allow: [{{repositories: {repositories}, actions: {actions}}}]{more}")


def gitlab(match: str) -> str:
    return document(
        f"match: {{{match}}}, allow: [{{repositories: [acme/app], actions: [pull]}}]",
        issuer="gl",
        url="https://gitlab.com",
    )


def staff(
    match: str, actions: str = "[pull]", repositories: str = "[acme/app]", more: str = "", after: str = ""
) -> str:
    return document(
        f"match: {{{match}}}, allow: [{{repositories: {repositories}, actions: {actions}}}]{more}",
        after,
        "staff",
        "https://login.example.com",
    )


LIFE = ", token_seconds: 3600"
PUSH = "[pull, push]"
GOOD = staff("groups: admins")

TABLE = [
    # code, line, refused, accepted one step away
    ("EP001", 5, github("ref: refs/heads/main"), github('ref: refs/heads/main, repository_id: "81"')),
    ("EP001", 5, github('aud: r, iss: "https://token.actions.githubusercontent.com"'), github('repository_owner_id: "81"')),
    ("EP001", 5, github("event_name: push, environment: prod, actor: me"), github('repository_id: ["81", "82"]')),
    ("EP001", 5, github('repository_id: {glob: "*"}'), github('repository_id: "81"')),
    ("EP001", 5, github('repository_id: {glob: "8*"}'), github('repository_id: "81"')),
    ("EP001", 5, staff("email_verified: true"), staff("email_verified: true, email: a@company.example")),
    ("EP001", 5, staff('sub: {glob: "*"}'), staff('sub: {glob: "team-*"}')),
    ("EP001", 5, staff('sub: {glob: "system:serviceaccount:*:*"}'), staff('sub: {glob: "system:serviceaccount:prod-*:*"}')),
    ("EP001", 5, staff('email: {regex: ".*@.*"}'), staff('email: {regex: "[a-z]+@company[.]example"}')),
    ("EP002", 5, github("repository: acme/app"), github('repository: acme/app, repository_id: "81"')),
    ("EP002", 5, github('sub: "repo:acme/app:ref:refs/heads/main"'), github('sub: "repo:acme@42/app@81:ref:refs/heads/main"')),
    ("EP002", 5, github('sub: {glob: "repo:acme/app:*"}'), github('sub: {glob: "repo:acme@42/app@81:*"}')),
    ("EP002", 5, github('sub: ["repo:acme@42/app@81:x", "repo:acme/app:x"]'), github('sub: ["repo:acme@42/app@81:x"]')),
    ("EP002", 5, github('job_workflow_ref: "acme/app/.github/workflows/r.yml@refs/heads/main"'), github('repository_id: "81"')),
    ("EP002", 5, gitlab("project_path: acme/app"), gitlab('project_path: acme/app, project_id: "81"')),
    ("EP003", 5, github('repository_id: "81", event_name: pull_request', PUSH, more=LIFE), github('repository_id: "81", event_name: push', PUSH, more=LIFE)),
    ("EP003", 5, github('repository_id: "81", event_name: [push, pull_request_target]', PUSH, more=LIFE), github('repository_id: "81", event_name: [push, release]', PUSH, more=LIFE)),
    ("EP003", 5, github('repository_id: "81", event_name: {glob: "pull*"}', "[delete]"), github('repository_id: "81", event_name: {glob: "push*"}', "[delete]")),
    ("EP003", 5, github('repository_id: "81"', PUSH, more=LIFE), github('repository_id: "81"', "[pull]")),
    ("EP003", 5, github('repository_id: "81", ref: {glob: "refs/**"}', PUSH, more=LIFE), github('repository_id: "81", ref: {glob: "refs/heads/*"}', PUSH, more=LIFE)),
    ("EP003", 5, github('sub: "repo:acme@42/app@81:pull_request"', PUSH, more=LIFE), github('sub: "repo:acme@42/app@81:ref:refs/heads/main"', PUSH, more=LIFE)),
    ("EP004", 5, github('repository_id: "81", ref: {glob: "refs/heads/**"}'), github('repository_id: "81", ref: {glob: "refs/heads/*"}')),
    ("EP004", 5, github('repository_id: "81", ref: {regex: "refs/heads/.*"}'), github('repository_id: "81", ref: {regex: "refs/heads/[^/:]*"}')),
    ("EP004", 5, github('repository_id: "81", ref: {regex: "refs/heads/[^:]+"}'), github('repository_id: "81", ref: {regex: "refs/heads/[a-z.]+"}')),
    ("EP004", 5, github('repository_id: "81", ref: {regex: ".*"}'), github('repository_id: "81", ref: {regex: "v[.]"}')),
    ("EP004", 5, github('repository_id: "81"', repositories='["acme**"]'), github('repository_id: "81"', repositories='["acme/**"]')),
    ("EP005", 5, github('repository_id: "81", ref: {regex: "refs/heads/main|master"}'), github('repository_id: "81", ref: {regex: "refs/heads/(main|master)"}')),
    ("EP005", 5, github('repository_id: "81", ref: {regex: "(a)|b"}'), github('repository_id: "81", ref: {regex: "[|]a"}')),
    ("EP006", 5, github("repository_id: 81"), github('repository_id: "81"')),
    ("EP006", 5, gitlab('project_id: "81", ref_protected: true'), gitlab('project_id: "81", ref_protected: "true"')),
    ("EP006", 5, github('repository_id: "81", aud: other'), github('repository_id: "81", aud: r')),
    ("EP006", 5, github('repository_id: "81", iss: "https://gitlab.com"'), github('repository_id: "81", iss: "https://token.actions.githubusercontent.com"')),
    ("EP006", 5, staff("sub: 5"), staff('sub: "5"')),
    ("EP008", 5, staff("groups: a", after='deny: [{name: d, repositories: ["acme/**"], actions: [pull]}]'), staff("groups: a", after="deny: [{name: d, repositories: [acme/other], actions: [pull]}]")),
    ("EP008", 5, staff("groups: a", after="deny: [{name: d, issuer: staff, match: {groups: [a, b]}, repositories: [acme/app], actions: [pull]}]"), staff("groups: a", after="deny: [{name: d, issuer: staff, match: {groups: [b]}, repositories: [acme/app], actions: [pull]}]")),
    ("EP009", 5, staff("groups: a", more=", expires: 2026-05-31"), staff("groups: a", more=", expires: 2027-06-01")),
    ("EP009", 5, staff("groups: a", more=", expires: 2026-06-20"), staff("groups: a", more=", expires: 2026-07-20")),
    ("EP009", 3, GOOD.replace("[r]", "[r], keys: {file: jwks.json, not_after: 2026-06-20}"), GOOD.replace("[r]", "[r], keys: {file: jwks.json, not_after: 2026-07-20}")),
    ("EP010", 2, "version: 1\npublic: [{repositories: [a], actions: [pull, push]}]", "version: 1\npublic: [{repositories: [a], actions: [pull]}]"),
    ("EP011", 5, staff("groups: a", repositories="[Acme/app]"), staff("groups: a", repositories="[acme/app]")),
    ("EP011", 5, staff("groups: a", repositories="[/acme]"), staff("groups: a", repositories='["acme/*-x"]')),
    ("EP011", 5, staff("groups: a", repositories='["acme/"]'), staff("groups: a", repositories='["acme/**"]')),
    ("EP011", 6, GOOD + 'hide: ["acme/{app}"]', GOOD + 'hide: ["acme/app"]'),
    ("EP011", 6, GOOD + 'tags: [{repositories: [a], tags: ["-v*"], immutable: true}]', GOOD + 'tags: [{repositories: [a], tags: ["v*", "1.0", "V-X"], immutable: true}]'),
    ("EP011", 6, GOOD + 'tags: [{repositories: [A], tags: ["v*"], immutable: true}]', GOOD + 'tags: [{repositories: [a], tags: ["v*"], immutable: true}]'),
    ("EP012", 3, document(more="public: [{repositories: [a], actions: [pull]}]"), GOOD),
    ("EP013", 3, GOOD.replace("https://login.example.com", "http://127.0.0.1:8080"), GOOD),
    ("EP014", 5, github('repository_id: "81", ref: refs/heads/main', PUSH), github('repository_id: "81", ref: refs/heads/main', PUSH, more=LIFE)),
    ("EP014", 5, document("match: {pipeline: x}, allow: [{repositories: [a], actions: [push]}]", url="https://agent.buildkite.com"), document("match: {pipeline: x}, allow: [{repositories: [a], actions: [pull]}]", url="https://agent.buildkite.com")),
    ("EP015", 1, "version: 1", "version: 1\npublic: [{repositories: [a], actions: [pull]}]"),
    ("EP015", 1, staff("groups: a", more=", mode: audit"), staff("groups: a", more=", mode: enforce")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "line", "bad", "good"), TABLE)
def test_a_rule_of_the_linter_finds_its_case_and_not_its_twin(code: str, line: int, bad: str, good: str) -> None:
    assert (code, line) in [(finding.code, finding.line) for finding in findings(bad)]
    assert findings(good) == ()


def two(first: str, second: str) -> str:
    rule = "  - {{name: {0}, issuer: staff, {1}}}\n"
    return document(
        "", f"rules:\n{rule.format('a', first)}{rule.format('b', second)}", "staff", "https://login.example.com"
    )


WIDE = 'match: {groups: [x, y]}, allow: [{repositories: ["acme/**"], actions: [pull, push]}], token_seconds: 3600'


@pytest.mark.parametrize(
    ("covered", "apart"),
    [
        ("match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}]", "match: {groups: z}, allow: [{repositories: [acme/app], actions: [pull]}]"),
        ("match: {groups: x, sub: a}, allow: [{repositories: [acme/app], actions: [pull]}]", "match: {sub: a}, allow: [{repositories: [acme/app], actions: [pull]}]"),
        ('match: {groups: x}, allow: [{repositories: ["acme/app/*"], actions: [pull]}]', 'match: {groups: x}, allow: [{repositories: ["acme*/app"], actions: [pull]}]'),
        ("match: {groups: x}, allow: [{repositories: [acme/app], actions: [push]}]", "match: {groups: x}, allow: [{repositories: [acme/app], actions: [delete]}]"),
        ("match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}], token_seconds: 60", "match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}], token_seconds: 7200"),
        ("match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}], expires: 2027-06-01", "match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}], deliver: proxy"),
        (WIDE, "match: {groups: x}, allow: [{repositories: [acme/app], actions: [pull]}], mode: audit"),
    ],
)  # fmt: skip
def test_a_rule_that_another_covers_adds_nothing(covered: str, apart: str) -> None:
    assert [(finding.code, finding.line) for finding in findings(two(WIDE, covered))] == [("EP007", 6)]
    assert findings(two(WIDE, apart)) == ()


def test_a_rule_that_public_covers_adds_nothing() -> None:
    public = 'public: [{repositories: ["acme/**"], actions: [pull]}]'

    assert [finding.code for finding in findings(staff("groups: a", after=public))] == ["EP007"]
    assert findings(staff("groups: a", "[pull, push]", after=public)) == ()
    assert findings(staff("groups: a", more=", deliver: proxy", after=public)) == ()


def test_names_in_typed_forms_need_no_ids_beside_them() -> None:
    form = "github: {repository_id: 81, ref: refs/heads/main, events: [push]}, token_seconds: 1h"

    assert (
        findings(
            document(
                f"{form}, allow: [{{repositories: [a], actions: [push]}}]",
                url="https://ghes.example.com/_services/token",
            )
        )
        == ()
    )


def test_an_enterprise_server_is_recognised_by_its_path() -> None:
    rule = "match: {repository: acme/app}, allow: [{repositories: [a], actions: [pull]}]"

    assert [f.code for f in findings(document(rule, url="https://ghes.example.com/_services/token"))] == ["EP002"]
    assert findings(document(rule, url="https://ghes.example.com/login")) == ()


def test_soon_is_thirty_days() -> None:
    text = staff("groups: a", more=", expires: 2026-08-01")

    assert findings(text, now=moment("2026-08-01") - SOON - 1) == ()
    assert "expires within 30 days" in findings(text, now=moment("2026-08-01") - SOON)[0].message
    assert "expired" in findings(text, now=moment("2026-08-01"))[0].message


def test_a_finding_says_where_what_why_and_how() -> None:
    (finding,) = findings(github("ref: refs/heads/main"))
    where, why, how = str(finding).splitlines()

    assert where == "policy.yaml:5: EP001 rule `a` has no claim that identifies anyone beyond iss and aud"
    assert why.startswith("    Everyone who can get a token")
    assert how == "    Fix: match an exact repository_id or repository_owner_id"


def test_every_finding_of_the_table_has_its_three_sentences_and_every_code_is_there() -> None:
    found = [finding for row in TABLE for finding in findings(row[2])] + list(findings(two(WIDE, WIDE)))

    assert all(finding.message and finding.consequence.endswith(".") and finding.fix for finding in found)
    assert {finding.code for finding in found} == {f"EP{number:03}" for number in range(1, 16)}


def test_a_document_that_does_not_load_is_not_linted() -> None:
    with pytest.raises(PolicyError):
        findings("version: 2")
