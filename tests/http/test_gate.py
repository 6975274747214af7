"""Who gets in, and how a refusal is worded: 401 to sign in, 403 by policy, 404 where nothing may be known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest

from edgeproxy.access.decisions import Denial, Grant
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action
from tests.http.harness import NOW, PUBLIC_URL, House, bearer, digest_of, identity, image, on_directory

POLICY = """\
version: 1
issuers:
  ci: {url: "https://ci.example", audiences: [r]}
rules:
  - {name: main-pushes, issuer: ci, match: {team: a, ref: main}, allow: [{repositories: ["acme/**"], actions: [pull, push]}]}
  - {name: long, issuer: ci, match: {team: long}, allow: [{repositories: ["acme/**"], actions: [pull]}], token_seconds: 3600}
deny:
  - {name: nobody-deletes, repositories: ["acme/**"], actions: [delete]}
hide: ["acme/secret/**", "hidden/**"]
public:
  - {repositories: ["public/**"], actions: [pull]}
"""
NO_ISSUER = "version: 1\npublic:\n  - {repositories: ['public/**'], actions: [pull]}\n"
CALLERS = {
    "main": bearer(identity(team="a", ref="main")),
    "branch": bearer(identity(team="a", ref="secret-branch")),
    "stranger": bearer(identity()),
    "scoped": bearer(identity(team="a", ref="main"), ["acme/app"]),
    "nowhere": bearer(identity(team="a", ref="main"), []),
    "anonymous": bearer(None, ["public/app"]),
    "ended": bearer(identity("job", "ci", NOW - 1, team="a", ref="main")),
    "long": bearer(identity("job", "ci", NOW - 1, team="long")),
}
CHALLENGE = f'Bearer realm="{PUBLIC_URL}/token",service="registry.example"'
TAGS = "/v2/{}/tags/list"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path, policy=POLICY, callers=CALLERS) as found:
        for repository in ("acme/app", "acme/other"):
            await found.push_blob(repository, b"{}", as_="main")
            (await found.put_manifest(repository, "latest", image(), as_="main")).expect(201)
        yield found


async def test_a_ping_is_challenged_without_a_scope_and_answered_with_a_credential(house: House) -> None:
    for target in ("/v2/", "/v2"):
        reply = await house.ask("GET", target)
        assert reply.error == (401, "UNAUTHORIZED")
        assert reply.header("www-authenticate") == CHALLENGE
        for name in ("main", "stranger", "anonymous", "nowhere"):
            assert (await house.ask("GET", target, as_=name)).json == {}


async def test_a_ping_is_answered_to_everyone_where_the_policy_lists_no_issuer(house: House) -> None:
    house.set_policy(NO_ISSUER)
    assert (await house.ask("GET", "/v2/")).status == 200


@pytest.mark.parametrize(
    ("method", "target", "scope"),
    [
        ("GET", "/v2/acme/app/manifests/latest", "pull"),
        ("HEAD", f"/v2/acme/app/blobs/{digest_of(b'{}')}", "pull"),
        ("POST", "/v2/acme/app/blobs/uploads/", "pull,push"),
        ("PUT", "/v2/acme/app/manifests/x", "pull,push"),
        ("DELETE", "/v2/acme/app/manifests/x", "pull,delete"),
        ("GET", "/v2/acme/secret/x/tags/list", "pull"),
    ],
)
async def test_an_anonymous_caller_is_challenged_once_with_the_scope_of_its_request(
    house: House, method: str, target: str, scope: str
) -> None:
    reply = await house.ask(method, target, body=b"" if method in {"POST", "PUT"} else None)
    assert reply.status == 401
    repository = "acme/secret/x" if "secret" in target else "acme/app"
    assert reply.header("www-authenticate") == f'{CHALLENGE},scope="repository:{repository}:{scope}"'


async def test_public_repositories_are_served_without_any_credential(house: House) -> None:
    reply = await house.ask("GET", TAGS.format("public/app"))
    assert reply.error == (404, "NAME_UNKNOWN")  # It passed the gate, and there is none.
    pushed = await house.ask("POST", "/v2/public/app/blobs/uploads/", body=b"")
    assert pushed.error == (401, "UNAUTHORIZED")


async def test_a_credential_that_is_not_believed_is_401_with_the_reason_and_the_scope(house: House) -> None:
    reply = await house.ask("GET", TAGS.format("acme/app"), as_="forged")
    assert reply.error == (401, "UNAUTHORIZED")
    assert reply.header("www-authenticate") == (
        f'{CHALLENGE},scope="repository:acme/app:pull",error="invalid_token",'
        'error_description="the token is not signed by its issuer"'
    )
    assert b"for operators" not in reply.body
    ping = await house.ask("GET", "/v2/", as_="forged")
    assert 'error="invalid_token"' in ping.header("www-authenticate")
    # A bad credential does not fall back to what is public.
    assert (await house.ask("GET", TAGS.format("public/app"), as_="forged")).status == 401


async def test_a_denial_by_policy_is_403_and_names_rule_and_claim_and_no_value(house: House) -> None:
    reply = await house.ask("GET", TAGS.format("acme/app"), as_="branch")
    assert reply.error == (403, "DENIED")
    assert reply.message == (
        "pull acme/app is denied: no rule allows it; rule 'main-pushes' comes nearest, but 'ref' differs;"
        " ask the owner of the policy (request r1)"
    )
    assert reply.json["errors"][0]["detail"] == "pull acme/app"
    assert not reply.has("www-authenticate")
    assert b'main"' not in reply.body
    assert b"secret-branch" not in reply.body
    (await house.ask("GET", TAGS.format("acme/app"), as_="main")).expect(200)


async def test_a_deny_rule_beats_every_rule_and_is_named(house: House) -> None:
    reply = await house.ask("DELETE", "/v2/acme/app/manifests/latest", as_="main")
    assert reply.error == (403, "DENIED")
    assert reply.message == (
        "delete acme/app is denied by deny rule 'nobody-deletes'; ask the owner of the policy (request r1)"
    )
    (await house.ask("GET", "/v2/acme/app/manifests/latest", as_="main")).expect(200)


async def test_an_anonymous_bearer_is_denied_without_any_rule_s_name(house: House) -> None:
    house.callers["guest"] = bearer(None, ["acme/app"])
    reply = await house.ask("GET", TAGS.format("acme/app"), as_="guest")
    assert reply.error == (403, "DENIED")
    assert reply.message == (
        "pull acme/app is denied to anonymous callers; sign in with an identity that the policy names (request r1)"
    )


async def test_hidden_repositories_are_refused_as_if_they_were_not_there(house: House) -> None:
    await house.registry.catalog.add(Repository("hidden/x"))  # One exists, the other does not.
    there = await house.ask("GET", TAGS.format("hidden/x"), as_="main")
    missing = await house.ask("GET", TAGS.format("hidden/y"), as_="main")
    assert there.error == (404, "NAME_UNKNOWN")
    assert there.body.replace(b"hidden/x", b"hidden/y") == missing.body
    assert there.status == missing.status


async def test_refusals_are_the_same_whether_a_repository_exists_or_not(house: House) -> None:
    for name in ("branch", "stranger", ""):
        there = await house.ask("GET", TAGS.format("acme/app"), as_=name)
        missing = await house.ask("GET", TAGS.format("acme/xyz"), as_=name)
        assert there.body.replace(b"acme/app", b"acme/xyz") == missing.body
        assert there.status == missing.status
        assert [name for name, _ in there.headers] == [name for name, _ in missing.headers]


async def test_a_bearer_opens_only_the_repositories_it_was_asked_for(house: House) -> None:
    (await house.ask("GET", TAGS.format("acme/app"), as_="scoped")).expect(200)
    (await house.ask("POST", "/v2/acme/app/blobs/uploads/", body=b"", as_="scoped")).expect(202)
    for name in ("scoped", "nowhere"):
        reply = await house.ask("GET", TAGS.format("acme/other"), as_=name)
        assert reply.error == (401, "UNAUTHORIZED")
        text = "this token was not asked for repository acme/other; ask for one with that scope"
        assert reply.message == text
        assert reply.header("www-authenticate") == (
            f'{CHALLENGE},scope="repository:acme/other:pull",error="insufficient_scope",error_description="{text}"'
        )
    (await house.ask("GET", TAGS.format("acme/other"), as_="main")).expect(200)


async def test_a_scope_grants_nothing(house: House) -> None:
    house.callers["greedy"] = bearer(identity(), ["acme/app"])
    assert (await house.ask("GET", TAGS.format("acme/app"), as_="greedy")).error == (403, "DENIED")


async def test_a_mount_needs_a_bearer_for_its_source_too_and_becomes_an_upload_without(house: House) -> None:
    target = f"/v2/acme/app/blobs/uploads/?mount={digest_of(b'{}')}&from=acme/other"
    (await house.ask("POST", target, body=b"", as_="scoped")).expect(202)
    house.callers["both"] = bearer(identity(team="a", ref="main"), ["acme/app", "acme/other"])
    (await house.ask("POST", target, body=b"", as_="both")).expect(201)


async def test_past_the_end_of_its_token_a_caller_needs_a_rule_with_token_seconds(house: House) -> None:
    reply = await house.ask("GET", TAGS.format("acme/app"), as_="ended")
    assert reply.error == (401, "UNAUTHORIZED")
    assert 'error="invalid_token"' in reply.header("www-authenticate")
    assert reply.message == "the sign-in behind this token has expired; sign in again"
    (await house.ask("GET", TAGS.format("acme/app"), as_="long")).expect(200)


async def test_one_caller_s_upload_is_no_other_s(house: House) -> None:
    """Upload session IDOR: the Location of one caller opens nothing for another, nor under another repository."""
    house.callers["rival"] = bearer(identity("rival", team="a", ref="main"))
    location = await house.start_upload("acme/app", as_="main")
    moved = location.replace("acme/app", "acme/other")
    for target, name in ((location, "rival"), (moved, "main")):
        for method in ("GET", "PATCH", "DELETE"):
            reply = await house.ask(method, target, body=b"x", as_=name)
            assert reply.error == (404, "BLOB_UPLOAD_UNKNOWN")
        finish = await house.ask("PUT", f"{target}?digest={digest_of(b'x')}", body=b"x", as_=name)
        assert finish.error == (404, "BLOB_UPLOAD_UNKNOWN")
    (await house.ask("PATCH", location, body=b"x", as_="main")).expect(202)


async def test_a_changed_policy_binds_the_next_request(house: House) -> None:
    (await house.ask("GET", TAGS.format("acme/app"), as_="main")).expect(200)
    house.set_policy(POLICY.replace("ref: main", "ref: other"))
    assert (await house.ask("GET", TAGS.format("acme/app"), as_="main")).error == (403, "DENIED")
    house.set_policy(POLICY)
    (await house.ask("GET", TAGS.format("acme/app"), as_="main")).expect(200)


async def test_a_decision_is_remembered_by_token_policy_repository_and_action_and_nothing_less(house: House) -> None:
    app, other = Repository("acme/app"), Repository("acme/other")
    yes, no = CALLERS["main"], CALLERS["branch"]
    asked = [
        (yes, Access(app, Action.PULL), Grant),
        (no, Access(app, Action.PULL), Denial),
        (yes, Access(app, Action.DELETE), Denial),
        (yes, Access(Repository("elsewhere"), Action.PULL), Denial),
        (yes, Access(other, Action.PUSH), Grant),
    ]
    for _ in range(2):
        for who, access, kind in asked:
            assert isinstance(house.gate.decide(who, access), kind)
    first = house.gate.decide(yes, Access(app, Action.PULL))
    assert house.gate.decide(yes, Access(app, Action.PULL)) is first
    house.set_policy(POLICY + "# changed\n")
    assert house.gate.decide(yes, Access(app, Action.PULL)) is not first


async def test_a_decision_is_not_remembered_past_the_end_of_the_token_or_a_minute(house: House) -> None:
    house.callers["short"] = who = bearer(identity("job", "ci", NOW + 10, team="a", ref="main"))
    access = Access(Repository("acme/app"), Action.PULL)
    decision = house.gate.decide(who, access)
    assert isinstance(decision, Grant)
    assert decision.until < inf
    house.clock.now = decision.until
    assert isinstance(house.gate.decide(who, access), Denial)
    long = house.gate.decide(CALLERS["long"], access)
    house.clock.advance(61)
    assert house.gate.decide(CALLERS["long"], access) is not long


async def test_who_am_i_and_can_i_answer_everyone_about_themselves(house: House) -> None:
    assert (await house.ask("GET", "/v2/_edgeproxy/whoami")).json == {"anonymous": True}
    me = (await house.ask("GET", "/v2/_edgeproxy/whoami", as_="nowhere")).json
    assert me == {
        "anonymous": False,
        "issuer": "ci",
        "subject": "job",
        "claims": {"team": "a", "ref": "main"},
        "expires": int(NOW + 3600),
    }
    question = "/v2/_edgeproxy/can-i?repository=acme/app&action={}"
    for name, action, allowed in (("main", "push", True), ("main", "delete", False), ("branch", "pull", False)):
        answer = await house.ask("GET", question.format(action), as_=name)
        assert answer.json["allowed"] is allowed


async def test_nothing_is_allowed_without_a_rule(house: House) -> None:
    house.set_policy("version: 1\n")
    for method, target in (("GET", TAGS.format("public/app")), ("POST", "/v2/public/app/blobs/uploads/")):
        assert (await house.ask(method, target, body=b"")).error == (403, "DENIED")


@pytest.mark.parametrize(("challenge", "status"), [("true", 401), ("false", 200)])
async def test_an_issuer_may_be_listed_without_asking_everyone_to_sign_in(
    tmp_path: Path, challenge: str, status: int
) -> None:
    policy = f"""
version: 1
issuers: {{ci: {{url: "https://ci.example", audiences: [registry.example], challenge: {challenge}}}}}
rules: [{{name: r, issuer: ci, match: {{role: owner}}, allow: [{{repositories: ["acme/**"], actions: [pull]}}]}}]
public: [{{repositories: ["open/**"], actions: [pull]}}]
"""
    async with on_directory(tmp_path, policy=policy) as house:
        (await house.ask("GET", "/v2/")).expect(status)
        refused = await house.ask("GET", "/v2/acme/app/manifests/latest")
        assert refused.status == 401
        assert refused.header("www-authenticate").startswith("Bearer ")
