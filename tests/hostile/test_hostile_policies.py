"""Claims that come near to what a rule names, and policies that change under a bearer that is out: each with its twin that is allowed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hostile.harness import CI, IMAGE, LAYER, MANIFEST, POLICY, World
from tests.http.harness import digest_of, image
from tests.issuer import NOW

TARGET = "/v2/acme/app/manifests/latest"
SECOND = image(b"another layer")


@dataclass(frozen=True)
class Near:
    """What a rule wants of claim `c`, a claim that comes near, and one that meets it; `...` stands for no claim at all."""

    wanted: str
    near: Any
    met: Any


ANCHORING = {
    "a letter before an exact value": Near("refs/heads/main", "xrefs/heads/main", "refs/heads/main"),
    "a letter after an exact value": Near("refs/heads/main", "refs/heads/main2", "refs/heads/main"),
    "a newline after an exact value": Near("refs/heads/main", "refs/heads/main\n", "refs/heads/main"),
    "a newline before an exact value": Near("refs/heads/main", "\nrefs/heads/main", "refs/heads/main"),
    "a blank after an exact value": Near("refs/heads/main", "refs/heads/main ", "refs/heads/main"),
    "a NUL after an exact value": Near("refs/heads/main", "refs/heads/main\0", "refs/heads/main"),
    "an exact value in another case": Near("refs/heads/main", "refs/heads/Main", "refs/heads/main"),
    "a look-alike of an exact value": Near("refs/heads/main", "refs/heads/m\u0430in", "refs/heads/main"),
    "another composition of an exact value": Near("caf\u00e9", "cafe\u0301", "caf\u00e9"),
    "the beginning of an exact value": Near("refs/heads/main", "refs/heads", "refs/heads/main"),
    "a letter before a glob": Near('{glob: "refs/tags/v*"}', "xrefs/tags/v1", "refs/tags/v1"),
    "a component after a glob": Near('{glob: "refs/tags/v*"}', "refs/tags/v1/x", "refs/tags/v1.x"),
    "a subject that stretches over a glob": Near(
        '{glob: "repo:acme/*:ref:refs/heads/main"}', "repo:acme/x:ref:y:ref:refs/heads/main", "repo:acme/x:ref:refs/heads/main"
    ),
    "an owner that stretches over a glob": Near(
        '{glob: "repo:acme/*:ref:refs/heads/main"}', "repo:acme/x/y:ref:refs/heads/main", "repo:acme/y:ref:refs/heads/main"
    ),
    "a newline after a glob": Near('{glob: "v*.0"}', "v1.0\n", "v1.0"),
    "a dot of a glob that is another letter": Near('{glob: "v1.*"}', "v1x0", "v1.0"),
    "a letter before a regex": Near('{regex: "v[0-9]+"}', "xv1", "v1"),
    "a letter after a regex": Near('{regex: "v[0-9]+"}', "v1x", "v1"),
    "a newline after a regex": Near('{regex: "v[0-9]+"}', "v1\n", "v1"),
    "a line of many that meets a regex": Near('{regex: "v[0-9]+"}', "x\nv1\ny", "v1"),
    "a newline after a regex that ends in a dollar": Near('{regex: "^v[0-9]+$"}', "v1\n", "v1"),
    "the first alternative with more after it": Near('{regex: "main|release"}', "main-of-a-fork", "main"),
    "the last alternative with more before it": Near('{regex: "main|release"}', "my-release", "release"),
    "other digits for a class": Near('{regex: "[0-9]+"}', "\u0661", "1"),
    "a dot that is a newline": Near('{regex: "a.c"}', "a\nc", "abc"),
}  # fmt: skip

TYPES = {
    "text for true": Near("true", "true", True),
    "true for text": Near('"true"', True, "true"),
    "a number for true": Near("true", 1, True),
    "true for a number": Near("1", True, 1),
    "text for a number": Near("74", "74", 74),
    "a number for text": Near('"74"', 74, "74"),
    "a number in another spelling": Near('"74"', "074", "74"),
    "a float that is close": Near("74", 74.5, 74.0),
    "a number that a float cannot hold": Near("9007199254740993", 9007199254740992, 9007199254740993),
    "null for text": Near('"null"', None, "null"),
    "null for false": Near("false", None, False),
    "an empty string": Near('{glob: "**"}', "", "x"),
    "an empty string for a regex": Near('{regex: ".*"}', "", "x"),
    "no claim": Near('{glob: "**"}', ..., "x"),
    "no claim for a list": Near("[a, b]", ..., "b"),
    "an empty list": Near('{glob: "**"}', [], ["x"]),
    "a list without the element": Near("[a, b]", ["c", "A"], ["c", "a"]),
    "a list in a list": Near("[a, b]", [["a"]], ["a"]),
    "a list in one string": Near("[a, b]", "a,b", "a"),
    "a list with an object": Near("a", [{"a": "a"}], ["x", "a"]),
    "an object": Near("a", {"a": "a"}, "a"),
    "an object under the name of a path": Near("a", {"": "a"}, "a"),
    "a list of empty strings": Near('{glob: "**"}', ["", None], ["", "x"]),
    "half of a list as a glob": Near('{glob: "a*"}', [1, True], ["ab", 1]),
}

NEAR = ANCHORING | TYPES
ONE_RULE = POLICY[: POLICY.index("  - name: keeps")] + POLICY[POLICY.index("  - name: reads") :]


@pytest.mark.parametrize("case", NEAR.values(), ids=NEAR)
async def test_a_claim_that_only_comes_near_opens_nothing(world: World, case: Near) -> None:
    wanted = case.wanted if case.wanted[0] in '{["0123456789tf' else f'"{case.wanted}"'
    world.set_policy(ONE_RULE.replace('repository_id: "74", ref: refs/heads/main', f"c: {wanted}"))
    refused = await world.ask("GET", TARGET, token=world.build(claim(case.near)))
    assert refused.error == (403, "DENIED")
    assert "rule 'builds' comes nearest, but 'c' differs" in refused.message
    for scope in ("pull", "pull,push"):
        granted = await world.sign_in(world.build(claim(case.near)), f"repository:acme/app:{scope}", "password")
        assert granted.expect(200).json["scope"] == ""
    (await world.ask("GET", TARGET, token=world.build(claim(case.met)))).expect(200)
    granted = await world.sign_in(world.build(claim(case.met)), "repository:acme/app:pull", "password")
    assert granted.expect(200).json["scope"] == "repository:acme/app:pull,push"


def claim(value: Any) -> dict[str, Any]:
    return {} if value is ... else {"c": value}


async def test_claims_of_two_rules_do_not_add_up_to_one(world: World) -> None:
    """A rule is one unit: half of one and half of another open nothing."""
    halves = world.build({"repository_id": "75", "ref": "refs/heads/main", "role": "keeper"})
    assert (await world.ask("GET", TARGET, token=halves)).error == (403, "DENIED")
    (await world.ask("GET", TARGET, token=world.build({"ref": "x", "role": "keeper"}))).expect(200)


async def test_the_same_claims_from_another_listed_issuer_open_nothing(world: World) -> None:
    assert (await world.ask("GET", TARGET, token=world.staff.mint(CI))).error == (403, "DENIED")
    assert (await world.ask("GET", TARGET, token=world.ci.mint({"groups": ["readers"]}))).error == (403, "DENIED")
    (await world.ask("GET", TARGET, token=world.ci.mint(CI))).expect(200)


# A policy that changes binds what is out already, at the next request.


async def out(world: World, kind: str) -> str:
    """Give a credential that has just opened the repository: a bearer of ours, or a token."""
    token = await world.bearer(world.build(), "acme/app") if kind == "bearer" else world.build()
    (await world.ask("GET", TARGET, token=token)).expect(200)
    (await world.put("acme/app", "x", MANIFEST, token=token)).expect(201)
    return token


KINDS = pytest.mark.parametrize("kind", ["bearer", "token"])


@KINDS
async def test_a_narrowed_rule_binds_at_the_next_request(world: World, kind: str) -> None:
    token = await out(world, kind)
    world.set_policy(POLICY.replace("actions: [pull, push]}]\n  - name: keeps", "actions: [pull]}]\n  - name: keeps"))
    assert (await world.put("acme/app", "x", MANIFEST, token=token)).error == (403, "DENIED")
    (await world.ask("GET", TARGET, token=token)).expect(200)


@KINDS
async def test_a_removed_rule_binds_at_the_next_request(world: World, kind: str) -> None:
    token = await out(world, kind)
    world.set_policy(POLICY.replace("ref: refs/heads/main", "ref: refs/heads/other"))
    assert (await world.ask("GET", TARGET, token=token)).error == (403, "DENIED")
    world.set_policy(POLICY)
    (await world.ask("GET", TARGET, token=token)).expect(200)


@KINDS
async def test_a_new_deny_binds_at_the_next_request(world: World, kind: str) -> None:
    token = await out(world, kind)
    world.set_policy(POLICY + 'deny:\n  - {name: frozen, repositories: ["acme/app"], actions: [push]}\n')
    refused = await world.put("acme/app", "x", MANIFEST, token=token)
    assert refused.error == (403, "DENIED")
    assert "by deny rule 'frozen'" in refused.message
    (await world.ask("GET", TARGET, token=token)).expect(200)


async def test_a_new_deny_on_a_claim_that_a_bearer_does_not_carry_makes_it_invalid(world: World) -> None:
    bearer, token = await out(world, "bearer"), world.build({"actor": "mallory"})
    denying = (
        POLICY
        + 'deny:\n  - {name: out, issuer: ci, match: {actor: mallory}, repositories: ["**"], actions: [pull, push]}\n'
    )
    world.set_policy(denying)
    refused = await world.ask("GET", TARGET, token=bearer)
    assert refused.error == (401, "UNAUTHORIZED")
    assert 'error="invalid_token"' in refused.header("www-authenticate")
    assert (await world.ask("GET", TARGET, token=token)).error == (403, "DENIED")
    fresh = await world.bearer(token, "acme/app")
    assert (await world.ask("GET", TARGET, token=fresh)).error == (403, "DENIED")
    (await world.ask("GET", TARGET, token=await world.bearer(world.build(), "acme/app"))).expect(200)


@KINDS
async def test_a_removed_issuer_takes_its_credentials_along(world: World, kind: str) -> None:
    token = await out(world, kind)
    start, _, rest = POLICY.partition("  ci:\n")
    issuers = start + rest[rest.index("  staff:") :]
    rules = "rules:\n" + issuers[issuers.index("  - name: reads") :]
    world.set_policy(issuers[: issuers.index("rules:")] + rules)
    refused = await world.ask("GET", TARGET, token=token)
    assert refused.error == (401, "UNAUTHORIZED")
    assert 'error="invalid_token"' in refused.header("www-authenticate")
    (await world.ask("GET", TARGET, token=world.person("readers"))).expect(200)


async def test_a_bearer_of_an_issuer_that_has_moved_is_invalid(world: World) -> None:
    bearer = await out(world, "bearer")
    world.set_policy(POLICY.replace("https://ci.example", "https://new.example"))
    assert (await world.ask("GET", TARGET, token=bearer)).error == (401, "UNAUTHORIZED")
    world.set_policy(POLICY)
    (await world.ask("GET", TARGET, token=bearer)).expect(200)


async def test_a_policy_that_comes_while_the_keys_are_fetched_decides_about_every_claim(world: World) -> None:
    """The token was verified under the old policy, which did not ask for the claim that the new deny names."""
    world.ci.gate = asyncio.Event()
    asking = asyncio.create_task(world.ask("GET", TARGET, token=world.build({"actor": "mallory"})))
    await world.ci.asked.wait()
    deny = 'deny:\n  - {name: out, issuer: ci, match: {actor: mallory}, repositories: ["**"], actions: [pull, push]}\n'
    world.set_policy(POLICY + deny)
    world.ci.gate.set()
    refused = await asking
    assert refused.error == (403, "DENIED")
    assert "by deny rule 'out'" in refused.message
    (await world.ask("GET", TARGET, token=world.build({"actor": "alice"}))).expect(200)


async def test_a_policy_that_comes_while_a_list_is_read_shows_nothing_that_it_denies(world: World) -> None:
    deny = 'deny:\n  - {name: out, issuer: staff, match: {actor: mallory}, repositories: ["**"], actions: [pull]}\n'
    listed = world.store.list

    def list_and_change(*arguments: Any, **options: Any) -> Any:
        world.set_policy(POLICY + deny)
        return listed(*arguments, **options)

    token = world.person("readers", actor="mallory")
    before = await world.ask("GET", "/v2/_catalog", token=token)
    assert before.json == {"repositories": ["acme/app", "acme/other", "public/app"]}
    object.__setattr__(world.store, "list", list_and_change)
    assert (await world.ask("GET", "/v2/_catalog", token=token)).error == (401, "UNAUTHORIZED")
    assert (await world.ask("GET", "/v2/_catalog", token=token)).json == {"repositories": []}
    alice = await world.ask("GET", "/v2/_catalog", token=world.person("readers", actor="alice"))
    assert alice.json == before.json


async def test_an_expired_rule_opens_nothing_and_the_moment_is_exact(world: World) -> None:
    world.set_policy(POLICY.replace("  - name: keeps", "    expires: 2027-01-15T08:00:10Z\n  - name: keeps"))
    token = world.build()
    (await world.ask("GET", TARGET, token=token)).expect(200)
    world.clock.advance(9)
    (await world.ask("GET", TARGET, token=token)).expect(200)
    world.clock.advance(1)
    assert (await world.ask("GET", TARGET, token=token)).error == (403, "DENIED")


async def test_a_rule_in_audit_mode_opens_nothing(world: World) -> None:
    world.set_policy(POLICY.replace("  - name: keeps", "    mode: audit\n  - name: keeps"))
    assert (await world.ask("GET", TARGET, token=world.build())).error == (403, "DENIED")
    (event,) = [event for event in await world.told() if event["event"] == "denied"]
    assert event["audit_only"] == ["builds"]
    world.set_policy(POLICY)
    (await world.ask("GET", TARGET, token=world.build())).expect(200)


# Past the end of the token that was shown.


async def test_past_the_token_only_rules_with_token_seconds_go_on_and_the_others_say_expired(world: World) -> None:
    world.set_policy(POLICY.replace("  - name: keeps", "    token_seconds: 3600\n  - name: keeps"))
    token = world.build({"role": "keeper"})
    reply = await world.sign_in(token, "repository:acme/app:pull")
    assert reply.json["expires_in"] == 3600
    bearer = reply.json["token"]
    manifest = f"/v2/acme/app/manifests/{digest_of(MANIFEST)}"
    world.clock.advance(299)
    (await world.ask("GET", TARGET, token=bearer)).expect(200)
    world.clock.advance(1)
    (await world.ask("GET", TARGET, token=bearer)).expect(200)
    refused = await world.ask("DELETE", manifest, token=bearer)
    assert refused.error == (401, "UNAUTHORIZED")
    assert "the sign-in behind this token has expired; sign in again" in refused.header("www-authenticate")
    assert 'error="invalid_token"' in refused.header("www-authenticate")
    world.clock.advance(3330)
    assert (await world.ask("GET", TARGET, token=bearer)).error == (401, "UNAUTHORIZED")


async def test_a_bearer_lives_no_longer_than_the_token_shown_where_no_rule_says_so(world: World) -> None:
    for left, life in ((300, 300), (90, 90), (10, 60), (7200, 900)):
        reply = await world.sign_in(world.build(claims_until(left)), "repository:acme/app:pull")
        assert reply.expect(200).json["expires_in"] == life
    bearer = (await world.sign_in(world.build(claims_until(10)), "repository:acme/app:pull")).json["token"]
    world.clock.advance(11)
    refused = await world.ask("GET", TARGET, token=bearer)
    assert refused.error == (401, "UNAUTHORIZED")
    assert "expired" in refused.message


def claims_until(seconds: float) -> dict[str, Any]:
    return {"exp": NOW + seconds}


async def test_token_seconds_of_a_rule_for_another_repository_lengthen_nothing(world: World) -> None:
    world.set_policy(
        POLICY.replace(
            "  - name: keeps",
            "  - {name: slow, issuer: ci, match: {repository_id: '74'}, allow: [{repositories: [acme/slow], actions: [pull]}], token_seconds: 3600}\n  - name: keeps",
        )
    )
    assert (await world.sign_in(world.build(), "repository:acme/app:pull")).json["expires_in"] == 300
    assert (await world.sign_in(world.build(), "repository:acme/slow:pull")).json["expires_in"] == 3600


# Immutable tags, by every way that could move or remove one.

IMMUTABLE = POLICY + 'tags:\n  - {repositories: ["acme/**"], tags: ["v*"], immutable: true}\n'
SCOPED = {"content-type": IMAGE}


@dataclass(frozen=True)
class Move:
    """A request that would move or remove `v1`, and its twin on a tag that may move."""

    method: str
    target: str
    body: bytes | None = None


APP = "/v2/acme/app/manifests"
MOVES = {
    "a push of the tag": (Move("PUT", f"{APP}/v1", SECOND), Move("PUT", f"{APP}/w1", SECOND), 201),
    "a tag parameter": (
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=v1", SECOND),
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=w1", SECOND),
        201,
    ),
    "a tag parameter among others": (
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=w1&tag=v1&tag=w2", SECOND),
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=w1&tag=v2&tag=w2", SECOND),
        201,
    ),
    "a tag parameter that is encoded": (
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=%76%31", SECOND),
        Move("PUT", f"{APP}/{digest_of(SECOND)}?tag=%77%31", SECOND),
        201,
    ),
    "a delete of the tag": (Move("DELETE", f"{APP}/v1"), Move("DELETE", f"{APP}/w1"), 202),
    "a delete of its digest": (
        Move("DELETE", f"{APP}/{digest_of(MANIFEST)}"),
        Move("DELETE", f"{APP}/{digest_of(SECOND)}"),
        202,
    ),
}


@pytest.mark.parametrize(("move", "twin", "status"), MOVES.values(), ids=MOVES)
async def test_an_immutable_tag_stays_whatever_is_tried(world: World, move: Move, twin: Move, status: int) -> None:
    world.set_policy(IMMUTABLE)
    token = world.person("admins")
    (await world.put("acme/app", "v1", MANIFEST, token=token)).expect(201)
    await world.push("acme/app", "w1", b"another layer")
    refused = await world.ask(move.method, move.target, token=token, headers=SCOPED, body=move.body)
    assert refused.error == (403, "DENIED")
    assert "v1" in refused.message
    assert "immutable" in refused.message
    assert (await world.ask("GET", f"{APP}/v1", token=token)).body == MANIFEST
    tags = (await world.ask("GET", "/v2/acme/app/tags/list", token=token)).json["tags"]
    assert {"latest", "v1", "w1"} <= set(tags)
    assert "w2" not in tags
    (await world.ask(twin.method, twin.target, token=token, headers=SCOPED, body=twin.body)).expect(status)


# What a rule allows, and nothing beside it: action by endpoint.

ACTIONS = ("pull", "push", "delete", "catalog")
DIGEST = digest_of(LAYER)
ENDPOINTS: dict[str, tuple[str, str, str, bytes | None, int]] = {
    "a manifest by tag": ("pull", "GET", f"{APP}/latest", None, 200),
    "the head of a manifest": ("pull", "HEAD", f"{APP}/latest", None, 200),
    "a blob": ("pull", "GET", f"/v2/acme/app/blobs/{DIGEST}", None, 307),
    "the head of a blob": ("pull", "HEAD", f"/v2/acme/app/blobs/{DIGEST}", None, 200),
    "tags": ("pull", "GET", "/v2/acme/app/tags/list", None, 200),
    "referrers": ("pull", "GET", f"/v2/acme/app/referrers/{DIGEST}", None, 200),
    "a new upload": ("push", "POST", "/v2/acme/app/blobs/uploads/", b"", 202),
    "an upload of a blob that is there": ("push", "POST", f"/v2/acme/app/blobs/uploads/?digest={DIGEST}", LAYER, 201),
    "a mount": ("push", "POST", f"/v2/acme/app/blobs/uploads/?mount={DIGEST}&from=public/app", b"", 201),
    "a manifest": ("push", "PUT", f"{APP}/x", MANIFEST, 201),
    "a manifest with tags": ("push", "PUT", f"{APP}/{digest_of(MANIFEST)}?tag=x&tag=y", MANIFEST, 201),
    "a tag that goes": ("delete", "DELETE", f"{APP}/latest", None, 202),
    "a manifest that goes": ("delete", "DELETE", f"{APP}/{digest_of(MANIFEST)}", None, 202),
    "a blob that goes": ("delete", "DELETE", f"/v2/acme/app/blobs/{DIGEST}", None, 202),
}


@pytest.mark.parametrize(("action", "method", "target", "body", "status"), ENDPOINTS.values(), ids=ENDPOINTS)
async def test_every_endpoint_asks_for_its_own_action_and_no_other_opens_it(
    world: World, action: str, method: str, target: str, body: bytes | None, status: int
) -> None:
    for other in sorted(ACTIONS, key=lambda each: each == action):
        rule = f"match: {{role: tester}}\n    allow: [{{repositories: [acme/app], actions: [{other}]}}]\n"
        world.set_policy(POLICY.replace("public:", f"  - name: only\n    issuer: ci\n    {rule}public:"))
        token = world.ci.mint({"role": "tester"})
        reply = await world.ask(method, target, token=token, headers=SCOPED if method == "PUT" else {}, body=body)
        # Clients look before they push and give up at a 403, so who may only push is told that there is nothing yet.
        looking = (
            other == "push"
            and target.startswith((f"{APP}/latest", "/v2/acme/app/blobs/sha"))
            and method in ("GET", "HEAD")
        )
        refused = 404 if looking else 403
        assert reply.status == (status if other == action else refused), (other, reply.body)
