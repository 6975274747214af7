"""Every known vulnerability of a registry, by its theme: what prevents it here, and which test would fail if it did not.

`COVERED` names the tests of other files; what none of them shows is tested below.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from edgeproxy.oci.requests import MAX_TAGS
from tests.hostile.harness import HOST, IMAGE, LAYER, MANIFEST, POLICY, STORE_URL, World
from tests.http.harness import descriptor, digest_of, image
from tests.issuer import Key

TESTS = Path(__file__).parents[1]
DIGEST = digest_of(LAYER)

COVERED: dict[str, tuple[str, ...]] = {
    "unbounded listing": (
        "http/test_lists.py::test_unbounded_listing_is_prevented",
        "http/test_lists.py::test_a_page_size_that_is_no_number_is_refused",
        "http/test_lists.py::test_the_marker_need_not_be_a_tag",
        "hostile/test_threats.py::test_a_listing_bomb_costs_a_bounded_number_of_store_calls",
    ),
    "JWT key confusion": (
        "hostile/test_hostile_tokens.py::test_a_hostile_token_is_refused_at_every_door_for_its_reason",
        "unit/access/test_tokens.py::test_a_key_that_a_token_offers_is_not_looked_at",
        "unit/access/test_tokens.py::test_a_token_signed_with_the_public_key_as_a_shared_secret_is_refused",
    ),
    "bugs of the JWT library": (
        "unit/access/test_tokens.py::test_a_header_is_refused_when",
        "unit/access/test_issuers.py::test_a_flood_of_unknown_keys_costs_one_fetch_a_cool_down",
        "unit/access/test_issuers.py::test_keys_stay_while_their_issuer_is_down_and_for_a_day_at_most",
        "hostile/test_threats.py::test_releases_with_known_vulnerabilities_cannot_be_installed",
    ),
    "audience and issuer": (
        "hostile/test_hostile_tokens.py::test_a_hostile_token_is_refused_at_every_door_for_its_reason",
        "hostile/test_hostile_policies.py::test_the_same_claims_from_another_listed_issuer_open_nothing",
        "hostile/test_threats.py::test_the_same_subject_of_two_issuers_is_two_callers",
    ),
    "cross-repository blob access": (
        "http/test_delivery.py::test_cross_repository_blob_access_is_prevented",
        "hostile/test_existence_leaks.py::test_a_digest_alone_gives_nothing_in_another_repository",
        "hostile/test_existence_leaks.py::test_a_mount_tells_nothing_of_a_repository_that_the_caller_may_not_pull",
        "hostile/test_existence_leaks.py::test_an_upload_of_a_blob_that_the_bucket_has_says_nothing_about_it",
        "hostile/test_existence_leaks.py::test_a_manifest_that_names_a_foreign_blob_is_refused_as_one_that_names_nothing",
        "http/test_deletes.py::test_a_deleted_blob_is_gone_from_this_repository_at_once_and_from_no_other",
    ),
    "upload sessions of others": (
        "hostile/test_existence_leaks.py::test_a_session_is_no_other_caller_s_no_other_repository_s_and_ends",
        "hostile/test_existence_leaks.py::test_a_session_goes_on_with_a_fresh_token_of_the_same_caller_but_not_past_a_denial",
    ),
    "scope mistakes": (
        "hostile/test_hostile_policies.py::test_every_endpoint_asks_for_its_own_action_and_no_other_opens_it",
        "hostile/test_hostile_policies.py::test_an_immutable_tag_stays_whatever_is_tried",
        "hostile/test_hostile_policies.py::test_a_narrowed_rule_binds_at_the_next_request",
        "hostile/test_hostile_policies.py::test_a_removed_issuer_takes_its_credentials_along",
        "hostile/test_threats.py::test_revoked_groups_do_not_persist",
        "hostile/test_threats.py::test_a_referrer_is_written_only_with_the_right_to_push",
    ),
    "digest confusion": (
        "http/test_refusals.py::test_digest_confusion_is_prevented",
        "unit/oci/test_manifests.py::test_json_that_two_parsers_could_read_differently_is_refused",
        "http/test_manifests.py::test_a_digest_that_the_manifest_does_not_have_is_refused",
        "http/test_manifests.py::test_stored_bytes_that_are_not_their_digest_are_not_served",
    ),
    "path and key injection": (
        "http/test_refusals.py::test_path_and_key_injection_is_prevented",
        "unit/oci/test_operations.py::test_a_path_is_an_operation_exactly_if_the_specification_has_it",
        "hostile/test_threats.py::test_policy_and_store_see_the_same_name",
    ),
    "Host and request.url": (
        "hostile/test_hostile_requests.py::test_neither_realm_nor_location_nor_link_follows_what_a_request_says_of_hosts",
        "http/test_heads.py::test_the_host_decides_nothing",
    ),
    "request smuggling": (
        "hostile/test_hostile_requests.py::test_a_request_framed_in_two_ways_is_refused_and_nothing_behind_it_is_read",
        "http/test_heads.py::test_a_body_that_is_framed_in_two_ways_is_refused_and_the_connection_ends",
        "http/test_delivery.py::test_many_ranges_through_the_registry_are_answered_with_the_whole",
    ),
    "SSRF": (
        "hostile/test_threats.py::test_ssrf_is_prevented_as_nothing_in_a_manifest_or_token_is_fetched",
        "unit/access/test_issuers.py::test_a_document_is_not_taken_when_the_server_answers_with",
        "unit/access/test_issuers.py::test_discovery_is_not_believed_when",
    ),
    "open redirect": ("hostile/test_threats.py::test_an_open_redirect_is_prevented",),
    "header injection": (
        "http/test_refusals.py::test_header_injection_is_prevented",
        "http/test_refusals.py::test_a_media_type_with_line_breaks_is_not_stored",
        "http/test_heads.py::test_a_folded_header_is_no_way_to_inject_another",
        "hostile/test_threats.py::test_claims_and_annotations_inject_no_header",
    ),
    "secret leakage": (
        "hostile/test_secrets_never_leak.py::test_no_secret_reaches_what_is_told",
        "hostile/test_secrets_never_leak.py::test_a_crash_tells_the_operator_where_and_nobody_a_secret",
        "hostile/test_secrets_never_leak.py::test_no_repr_shows_a_secret",
        "hostile/test_secrets_never_leak.py::test_the_scanner_finds",
    ),
    "objects of administrators": (
        "hostile/test_threats.py::test_there_is_no_endpoint_for_administrators_and_no_default_credential",
        "hostile/test_existence_leaks.py::test_the_catalog_shows_what_the_caller_may_pull_and_nothing_else",
        "hostile/test_existence_leaks.py::test_can_i_says_nothing_about_what_exists",
    ),
    "clients of clients' rules": (
        "http/test_lists.py::test_a_link_carries_what_was_asked_for_and_nothing_else",
        "hostile/test_hostile_requests.py::test_neither_realm_nor_location_nor_link_follows_what_a_request_says_of_hosts",
    ),
    "resource exhaustion": (
        "hostile/test_hostile_tokens.py::test_a_flood_of_hostile_tokens_keeps_no_memory",
        "hostile/test_hostile_tokens.py::test_a_flood_of_unknown_keys_costs_one_lookup",
        "hostile/test_hostile_tokens.py::test_duplicate_keys_are_found_with_a_bounded_number_of_comparisons",
        "hostile/test_hostile_requests.py::test_a_scope_of_many_repositories_is_refused_before_the_policy_is_asked",
        "hostile/test_hostile_requests.py::test_hostile_requests_keep_no_memory",
        "hostile/test_threats.py::test_a_manifest_that_nests_without_end_is_refused",
        "hostile/test_threats.py::test_more_tags_than_one_push_may_set_are_refused",
        "hostile/test_threats.py::test_open_sessions_cost_neither_memory_nor_objects",
        "faults/test_refusals.py::test_a_thousand_refused_uploads_leave_nothing_behind_and_each_client_reads_its_answer",
        "http/test_bodies.py::test_a_client_that_is_still_sending_reads_the_whole_refusal_and_nothing_is_left",
    ),
}
"""Theme -> tests, each as `<file below tests>::<function>`."""


@pytest.mark.parametrize("theme", COVERED)
def test_every_test_that_the_table_names_exists(theme: str) -> None:
    for name in COVERED[theme]:
        path, _, function = name.partition("::")
        tree = ast.parse((TESTS / path).read_text())
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert function in names, name


def test_the_table_would_miss_a_test_that_does_not_exist() -> None:
    assert "test_that_nobody_wrote" not in (TESTS / "http/test_lists.py").read_text()


# Unbounded listing.


@pytest.mark.parametrize("query", ["n=1000000000000", "n=1000", "last=" + "a" * 256, "last=%7e", ""])
async def test_a_listing_bomb_costs_a_bounded_number_of_store_calls(world: World, query: str) -> None:
    token = world.person("admins")
    for path in ("/v2/_catalog", "/v2/acme/app/tags/list"):
        world.store.calls.clear()
        (await world.ask("GET", f"{path}?{query}", token=token)).expect(200)
        assert world.store.total <= 2, world.store.calls
    for bad in ("n=-1", "n=x", "n=1e9", "n=1&n=2", "last=" + "a" * 4000, "last=%00%ff"):
        world.store.calls.clear()
        assert (await world.ask("GET", f"/v2/_catalog?{bad}", token=token)).status == 400
        assert not world.store.total


# Bugs of the JWT library, and of what speaks HTTP.

FIXED = {"pyjwt": (2, 15, 1), "h11": (0, 16), "starlette": (1, 0, 1), "hypercorn": (0, 16)}
"""The first releases without the advisories that concern us."""


@pytest.mark.parametrize("library", FIXED)
def test_releases_with_known_vulnerabilities_cannot_be_installed(library: str) -> None:
    project = (TESTS.parent / "pyproject.toml").read_text()
    (wanted,) = re.findall(rf'"{library}>=([0-9.]+)"', project)
    (locked,) = re.findall(rf"(?m)^{library}==([0-9.]+)", (TESTS.parent / "requirements" / "runtime.txt").read_text())
    for version in (wanted, locked):
        assert tuple(map(int, version.split("."))) >= FIXED[library]


# Audience and issuer.


async def test_the_same_subject_of_two_issuers_is_two_callers(world: World) -> None:
    started = await world.ask("POST", "/v2/acme/app/blobs/uploads/", token=world.build({"sub": "one"}), body=b"")
    location = started.expect(202).header("location")
    other = world.person("admins", sub="one")
    assert (await world.ask("GET", location, token=other)).error == (404, "BLOB_UPLOAD_UNKNOWN")
    (await world.ask("GET", location, token=world.build({"sub": "one"}))).expect(204)


# Scope mistakes.


async def test_revoked_groups_do_not_persist(world: World) -> None:
    """What a token says holds for that token: who has left a group is out with the next one, and by policy at once."""
    target = "/v2/acme/app/manifests/latest"
    bearer = await world.bearer(world.person("readers"), "acme/app")
    (await world.ask("GET", target, token=bearer)).expect(200)
    assert (await world.ask("GET", target, token=world.person("former-readers"))).error == (403, "DENIED")
    world.set_policy(POLICY.replace("groups: [readers]", "groups: [auditors]"))
    assert (await world.ask("GET", target, token=bearer)).error == (403, "DENIED")


async def test_a_referrer_is_written_only_with_the_right_to_push(world: World) -> None:
    statement = image(LAYER, subject=descriptor(MANIFEST, IMAGE))
    assert (await world.put("acme/app", "x", statement, token=world.person("readers"))).error == (403, "DENIED")
    referrers = f"/v2/acme/app/referrers/{digest_of(MANIFEST)}"
    assert (await world.ask("GET", referrers, token=world.build())).json["manifests"] == []
    (await world.put("acme/app", "x", statement, token=world.build())).expect(201)
    assert len((await world.ask("GET", referrers, token=world.build())).json["manifests"]) == 1


# Path and key injection.


@pytest.mark.parametrize(
    "path",
    [
        "/v2/acme/app/../other/manifests/latest",
        "/v2/acme/app/%2e%2e/other/manifests/latest",
        "/v2/acme%2fother/manifests/latest",
        "/v2//acme/other/manifests/latest",
        "/v2/acme/other%00/manifests/latest",
        "/v2/acme/other;x/manifests/latest",
        "/V2/acme/other/manifests/latest",
        "/v2/acme/app/manifests/..%2f..%2fother%2fmanifests%2flatest",
        "/v2\\acme\\other\\manifests\\latest",
    ],
)
async def test_policy_and_store_see_the_same_name(world: World, path: str) -> None:
    reply = await world.ask("GET", path, token=world.person("admins"))
    assert reply.status in (400, 404)
    assert not world.store.total
    (await world.ask("GET", "/v2/acme/other/manifests/latest", token=world.person("admins"))).expect(200)


# SSRF.


async def test_ssrf_is_prevented_as_nothing_in_a_manifest_or_token_is_fetched(world: World) -> None:
    token = world.build()
    (await world.ask("GET", "/v2/", token=token)).expect(200)
    assert world.fetched == ["https://ci.example/.well-known/openid-configuration", "https://ci.example/keys"]
    world.fetched.clear()
    foreign = {"urls": ["http://169.254.169.254/latest/meta-data/"]}
    layer = {
        **descriptor(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        **foreign,
    }
    manifest = json.loads(MANIFEST)
    manifest["layers"].append(layer)
    manifest["subject"] = {**descriptor(b"nowhere", IMAGE), **foreign}
    (await world.put("acme/app", "x", json.dumps(manifest).encode(), token=token)).expect(201)
    (await world.ask("GET", "/v2/acme/app/manifests/x", token=token)).expect(200)
    elsewhere = f"/v2/acme/app/blobs/{digest_of(b'elsewhere')}"
    assert (await world.ask("GET", elsewhere, token=token)).error == (404, "BLOB_UNKNOWN")
    forger = Key.make("ci-1", "RS256", 9)
    for header in ({"jku": "http://127.0.0.1/"}, {"x5u": "http://127.0.0.1/"}, {"kid": "http://127.0.0.1/"}):
        await world.ask("GET", "/v2/", token=world.build(header=header, key=forger))
    for issuer in (
        "http://169.254.169.254",
        "file:///etc/passwd",
        "https://stranger.example",
        "https://ci.example@127.0.0.1",
    ):
        await world.sign_in(world.build({"iss": issuer}))
    assert set(world.fetched) <= {"https://ci.example/.well-known/openid-configuration", "https://ci.example/keys"}
    assert len(world.fetched) <= 2


# Open redirect.


@pytest.mark.parametrize(
    "target",
    [
        f"/v2/acme/app/blobs/{DIGEST}?redirect=https://evil.example",
        f"/v2/acme/app/blobs/{DIGEST}?ns=evil.example",
        f"/v2/acme/app/blobs/{DIGEST}?location=//evil.example",
    ],
)
async def test_an_open_redirect_is_prevented(world: World, target: str) -> None:
    reply = await world.ask("GET", target, token=world.build())
    assert reply.expect(307).header("location").startswith(f"{STORE_URL}/blobs/sha256/{DIGEST[7:]}?")
    for path in (
        "//evil.example/v2/",
        "/\\evil.example",
        "/token/",
        "/v2//evil.example/",
        "https://evil.example/v2/",
        "/.well-known//",
    ):
        refused = await world.ask("GET", path, token=world.build())
        assert refused.status in (400, 404), path
        assert not refused.has("location")


# Header injection.


async def test_claims_and_annotations_inject_no_header(world: World) -> None:
    evil = "x\r\nSet-Cookie: a=b\r\n\r\n<html>"
    for token in (
        world.build({"sub": evil}),
        world.build({"sub": evil, "ref": evil}),
        world.build(header={"kid": evil}),
    ):
        reply = await world.ask(
            "GET", "/v2/acme/app/manifests/latest", token=token, headers={"x-request-id": evil.replace("\r\n", " ")}
        )
        for name, value in reply.headers:
            assert not set("\r\n") & set(name + value)
        assert not reply.has("set-cookie")
        assert reply.header("x-request-id") == "r1"
    statement = image(
        LAYER, subject=descriptor(MANIFEST, IMAGE), annotations={evil: evil}, artifactType="application/x.evil"
    )
    (await world.put("acme/app", "x", statement, token=world.build())).expect(201)
    path = f"/v2/acme/app/referrers/{digest_of(MANIFEST)}"
    listed = (await world.ask("GET", f"{path}?artifactType=application/x.evil", token=world.build())).expect(200)
    assert listed.json["manifests"][0]["annotations"] == {evil: evil}
    assert not any(set("\r\n") & set(value) for _, value in listed.headers)
    hostile = await world.ask("GET", f"{path}?artifactType=a%0d%0aSet-Cookie:%20a=b", token=world.build())
    assert not hostile.has("set-cookie")
    assert not any(set("\r\n") & set(value) for _, value in hostile.headers)


# Objects of administrators.


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/admin",
        "/metrics",
        "/debug/pprof",
        "/api/v2.0/users",
        "/v1/_ping",
        "/v2/_edgeproxy/policy",
        "/docs",
        "/openapi.json",
    ],
)
async def test_there_is_no_endpoint_for_administrators_and_no_default_credential(world: World, path: str) -> None:
    reply = await world.ask("GET", path, headers={"authorization": "Basic YWRtaW46YWRtaW4="})
    assert reply.status in (401, 404)
    assert HOST not in reply.body.decode()
    for credential in ("YWRtaW46YWRtaW4=", "YWRtaW46SGFyYm9yMTIzNDU=", "cm9vdDpyb290"):
        assert (await world.ask("GET", "/v2/", headers={"authorization": f"Basic {credential}"})).status == 401
    (await world.ask("GET", "/healthz")).expect(200)


# Resource exhaustion.


async def test_a_manifest_that_nests_without_end_is_refused(world: World) -> None:
    def nested(depth: int) -> bytes:
        return MANIFEST[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"

    for depth in (65, 1000, 500_000):
        refused = await world.put("acme/app", "x", nested(depth), token=world.build())
        assert refused.error == (400, "MANIFEST_INVALID")
        assert not world.store.calls["put"]
    (await world.put("acme/app", "x", nested(32), token=world.build())).expect(201)


async def test_more_tags_than_one_push_may_set_are_refused(world: World) -> None:
    def tags(count: int) -> str:
        return f"{digest_of(MANIFEST)}?" + "&".join(f"tag=t{number}" for number in range(count))

    refused = await world.put("acme/app", tags(MAX_TAGS + 1), MANIFEST, token=world.build())
    assert refused.status == 414
    assert not world.store.total
    assert (await world.put("acme/app", tags(1200), MANIFEST, token=world.build())).status == 414
    (await world.put("acme/app", tags(3), MANIFEST, token=world.build())).expect(201)


async def test_open_sessions_cost_neither_memory_nor_objects(world: World) -> None:
    """A session that nobody writes to is a signed token and nothing else, however many are opened."""
    (await world.ask("GET", "/v2/", token=world.build())).expect(200)
    for _ in range(200):
        (await world.ask("POST", "/v2/acme/app/blobs/uploads/", token=world.build(), body=b"")).expect(202)
    assert not world.store.total
    assert not world.registry.budget.used
    started = await world.ask("POST", "/v2/acme/app/blobs/uploads/", token=world.build(), body=b"")
    (await world.ask("PATCH", started.header("location"), token=world.build(), body=b"x")).expect(202)
    assert world.store.total
