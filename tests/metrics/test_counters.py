"""What /metrics says of exchanges that are worked out by hand, number by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeproxy.counters import FOLDED, MAX_ISSUERS, STORE_CLASSES, Counters, outcome_of
from edgeproxy.web.records import OPERATION_NAMES
from tests.hostile.harness import World, world_in
from tests.http.harness import House, build, digest_of, image, on_directory, on_double, pieces
from tests.metrics.page import Page, gained, page_of, total
from tests.r2.rules import CLASS_A, CLASS_B
from tests.r2.stores import watched

LAYERS = (b"first layer", b"second, longer layer")
MANIFEST = image(*LAYERS)
PUSHED = len(b"{}") + sum(map(len, LAYERS))


def page(house: House) -> Page:
    return page_of(house.numbers())


def requests(operation: str, outcome: str) -> str:
    return f'edgeproxy_requests_total{{operation="{operation}",outcome="{outcome}"}}'


def calls(operation: str, outcome: str) -> str:
    return (
        f'edgeproxy_store_calls_total{{class="{STORE_CLASSES[operation]}",operation="{operation}",outcome="{outcome}"}}'
    )


def timed(operation: str) -> str:
    return f'edgeproxy_request_seconds_count{{operation="{operation}"}}'


def store_timed(operation: str) -> str:
    return f'edgeproxy_store_call_seconds_count{{operation="{operation}"}}'


def cache(name: str, what: str) -> str:
    return f'edgeproxy_cache_{what}{{cache="{name}"}}'


async def pull(house: House) -> None:
    head = await house.ask("HEAD", "/v2/acme/app/manifests/latest")
    digest = head.expect(200).header("docker-content-digest")
    manifest = json.loads((await house.ask("GET", f"/v2/acme/app/manifests/{digest}")).body)
    for part in [manifest["config"], *manifest["layers"]]:
        (await house.ask("GET", f"/v2/acme/app/blobs/{part['digest']}")).expect(307)


PULLED = {
    requests("head_manifest", "ok"): 1,
    requests("get_manifest", "ok"): 1,
    requests("get_blob", "redirected"): 3,
    timed("head_manifest"): 1,
    timed("get_manifest"): 1,
    timed("get_blob"): 3,
    "edgeproxy_redirects_total": 3,
    "edgeproxy_delegated_bytes_total": PUSHED,
}


async def test_a_push_is_counted_request_by_request_and_call_by_call() -> None:
    async with on_double() as (house, found):
        before = page(house)
        await house.push_image("acme/app", "latest", *LAYERS)
        told = gained(before, page(house))
        assert told[requests("upload_whole", "ok")] == told[timed("upload_whole")] == 3
        assert told[requests("put_manifest", "ok")] == told[timed("put_manifest")] == 1
        assert total(told, "edgeproxy_requests_total") == 4
        assert told["edgeproxy_received_bytes_total"] == PUSHED + len(MANIFEST)
        assert not any("redirect" in name or "denials" in name for name in told)
        seen = found.double.counters
        assert total(told, "edgeproxy_store_calls_total") == seen.total
        for operation, number in seen.operations.items():
            assert total(told, "edgeproxy_store_calls_total", f'operation="{operation}"') == number, operation
            assert told[store_timed(operation)] == number
        # Nothing was there: each of the three blobs was looked for, and so was what the manifest and its tag replace.
        assert told[calls("HeadObject", "absent")] >= 3
        assert calls("PutObject", "failed") not in told


async def test_a_cold_pull_and_a_warm_one_are_counted_exactly() -> None:
    async with on_double() as (house, found):
        await house.push_image("acme/app", "latest", *LAYERS)
        async with watched(found.running) as second:
            replica = build(second.store, second.store.presigner(), counters=second.counters)
            start = page(replica)
            await pull(replica)
            cold = page(replica)
            await pull(replica)
            warm = page(replica)
            replica.audit.close()
    told = gained(start, cold)
    # Estimates; tests/unit/test_bounded.py holds them to what is taken. The warm pull below adds nothing.
    memory = {name: told.pop(cache(name, "bytes")) for name in ("decision", "deletion", "link", "manifest")}
    assert memory["manifest"] > len(MANIFEST)
    assert memory["link"] > 2 * memory["decision"] > memory["deletion"] > 0
    assert told == PULLED | {
        calls("GetObject", "ok"): 2,
        calls("HeadObject", "absent"): 1,
        store_timed("GetObject"): 2,
        store_timed("HeadObject"): 1,
        cache("tag", "misses_total"): 1,
        cache("manifest", "misses_total"): 1,
        cache("manifest", "hits_total"): 1,
        cache("manifest", "entries"): 1,
        cache("link", "hits_total"): 3,
        cache("link", "entries"): 3,
        cache("deletion", "misses_total"): 1,
        cache("deletion", "hits_total"): 2,
        cache("deletion", "entries"): 1,
        cache("decision", "misses_total"): 1,
        cache("decision", "hits_total"): 4,
        cache("decision", "entries"): 1,
    }
    assert gained(cold, warm) == PULLED | {
        calls("GetObject", "ok"): 1,
        store_timed("GetObject"): 1,
        cache("tag", "misses_total"): 1,
        cache("manifest", "hits_total"): 2,
        cache("link", "hits_total"): 3,
        cache("deletion", "hits_total"): 3,
        cache("decision", "hits_total"): 5,
    }


async def test_a_store_call_that_is_tried_again_is_a_call_each_time_and_a_retry() -> None:
    async with on_double() as (house, found):
        found.double.faults.add("error", operation="PutObject", status=429, code="SlowDown")
        before = page(house)
        await house.push_blob("acme/app", b"x")
        told = gained(before, page(house))
        assert told[calls("PutObject", "slow_down")] == 1
        assert told['edgeproxy_store_retries_total{operation="PutObject"}'] == 1
        assert total(told, "edgeproxy_store_calls_total", 'operation="PutObject"') == 3
        assert told[requests("upload_whole", "ok")] == 1


async def test_a_store_that_fails_for_good_is_counted_as_failed(tmp_path: Path) -> None:
    async with on_double() as (house, found):
        found.double.faults.add("error", times=None, operation="HeadObject", status=403, code="AccessDenied")
        before = page(house)
        (await house.ask("GET", f"/v2/acme/app/blobs/{digest_of(b'x')}")).expect(503)
        told = gained(before, page(house))
        assert told[requests("get_blob", "failed")] == 1
        assert told[calls("HeadObject", "failed")] == 1


async def test_what_is_answered_by_proxy_counts_the_bytes_that_clients_took(tmp_path: Path) -> None:
    async with on_directory(tmp_path, redirect=False) as house:
        digest = await house.push_blob("acme/app", b"0123456789")
        before = page(house)
        await house.ask("GET", f"/v2/acme/app/blobs/{digest}")
        await house.ask("GET", f"/v2/acme/app/blobs/{digest}", headers={"range": "bytes=2-4"})
        told = gained(before, page(house))
        assert told["edgeproxy_proxied_bytes_total"] == 13
        assert told[requests("get_blob", "ok")] == 2
        assert "edgeproxy_redirects_total" not in told
        assert told[calls("GetObject", "ok")] == 2


async def test_a_directory_counts_its_calls_as_a_bucket_does(tmp_path: Path) -> None:
    async with on_directory(tmp_path) as house:
        before = page(house)
        await house.push_image("acme/app", "latest", *LAYERS)
        told = gained(before, page(house))
        async with on_double() as (other, _):
            start = page(other)
            await other.push_image("acme/app", "latest", *LAYERS)
            of_bucket = gained(start, page(other))
    store = {name: value for name, value in told.items() if "_store_" in name}
    assert store
    assert store == {name: value for name, value in of_bucket.items() if "_store_" in name}


async def test_every_way_to_end_is_an_outcome_of_its_own(tmp_path: Path) -> None:
    async with on_directory(tmp_path) as house:
        before = page(house)
        (await house.ask("GET", "/v2/")).expect(200)
        (await house.ask("GET", f"/v2/acme/app/blobs/{digest_of(b'none')}")).expect(404)
        (await house.ask("GET", "/v2/UPPER/manifests/x")).expect(400)
        (await house.ask("GET", "/v2/", headers=[("x", "1"), ("host", "a"), ("host", "b"), ("range", "a\tb")]))
        (await house.ask("GET", "/nowhere")).expect(404)
        told = gained(before, page(house))
        assert told[requests("ping", "ok")] >= 1
        assert told[requests("get_blob", "refused")] == 1
        assert told[requests("other", "refused")] >= 2
        assert total(told, "edgeproxy_requests_total") == 5


async def test_a_chunked_body_counts_what_arrived(tmp_path: Path) -> None:
    async with on_directory(tmp_path) as house:
        location = await house.start_upload("acme/app")
        before = page(house)
        (await house.ask("PATCH", location, body=pieces(b"x" * 2500))).expect(202)
        told = gained(before, page(house))
        assert told["edgeproxy_received_bytes_total"] == 2500
        assert told[requests("append_upload", "ok")] == 1


def world_page(world: World) -> Page:
    return page_of(world.numbers())


def denials(kind: str, reason: str) -> str:
    return f'edgeproxy_denials_total{{kind="{kind}",reason="{reason}"}}'


def tokens(issuer: str, outcome: str) -> str:
    return f'edgeproxy_token_requests_total{{issuer="{issuer}",outcome="{outcome}"}}'


async def test_denials_are_counted_by_reason(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        blob = f"blobs/{digest_of(b'the bytes of a layer')}"
        wrong = world.build({"ref": "refs/heads/other"})
        bearer = await world.bearer(world.build(), "acme/app")
        start = world_page(world)
        (await world.ask("GET", f"/v2/acme/app/{blob}", token=wrong)).expect(403)
        (await world.ask("GET", f"/v2/acme/app/{blob}")).expect(401)
        (await world.ask("GET", f"/v2/acme/other/{blob}", token=bearer)).expect(401)
        (await world.ask("GET", f"/v2/acme/app/{blob}", token=world.build(header={"alg": "HS256"}))).expect(401)
        (await world.ask("GET", "/v2/")).expect(401)
        assert gained(start, world_page(world)) == {
            denials("policy", "no_rule"): 1,
            denials("policy", "anonymous"): 1,
            denials("policy", "insufficient_scope"): 1,
            denials("credential", "algorithm"): 1,
            denials("registry", "unauthorized"): 1,
            requests("get_blob", "denied"): 1,
            requests("get_blob", "challenged"): 3,
            requests("ping", "challenged"): 1,
            timed("get_blob"): 4,
            timed("ping"): 1,
        }


async def test_tokens_are_counted_by_issuer_and_outcome_and_strangers_fold_into_one(tmp_path: Path) -> None:
    async with world_in(tmp_path) as world:
        start = world_page(world)
        await world.bearer(world.build(), "acme/app")
        await world.bearer(world.person("admins"))
        await world.bearer(None, "public/app")
        (await world.sign_in(world.build({"aud": "somewhere else"}))).expect(401)
        for number in range(3):
            (await world.sign_in(world.stranger.mint({"iss": f"https://stranger-{number}.example"}))).expect(401)
        (await world.post({"grant_type": "none"})).expect(400)
        assert gained(start, world_page(world)) == {
            tokens("ci", "issued"): 1,
            tokens("staff", "issued"): 1,
            tokens("(anonymous)", "issued"): 1,
            tokens("ci", "audience"): 1,
            tokens("(unknown)", "issuer"): 3,
            tokens("(unknown)", "bad_request"): 1,
            requests("token", "ok"): 3,
            requests("token", "challenged"): 4,
            requests("token", "refused"): 1,
            timed("token"): 8,
        }


def test_more_issuers_than_a_policy_ever_had_fold_into_one() -> None:
    counters = Counters()
    for number in range(MAX_ISSUERS + 50):
        counters.token(f"issuer {number}", "issued")
    assert len({issuer for issuer, _ in counters.tokens}) <= MAX_ISSUERS
    assert counters.tokens[FOLDED, "issued"] > 0
    counters.token("issuer 0", "issued")
    assert counters.tokens["issuer 0", "issued"] == 2


def test_every_store_call_has_the_class_that_the_double_bills() -> None:
    billed = {"A": CLASS_A, "B": CLASS_B}
    for operation, kind in STORE_CLASSES.items():
        assert [name for name, operations in billed.items() if operation in operations] == [kind] * (kind != "free")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (206, "ok"),
        (307, "redirected"),
        (400, "refused"),
        (401, "challenged"),
        (403, "denied"),
        (404, "refused"),
        (500, "failed"),
        (503, "failed"),
    ],
)
def test_a_status_is_one_outcome(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome


async def test_a_client_that_leaves_is_counted(tmp_path: Path) -> None:
    from tests.http.harness import HangUp, NoAnswer

    async def broken() -> object:
        yield b"some"
        raise HangUp

    async with on_directory(tmp_path) as house:
        before = page(house)
        with pytest.raises(NoAnswer):
            await house.ask("POST", f"/v2/acme/app/blobs/uploads/?digest={digest_of(b'x')}", body=broken())  # type: ignore[arg-type]
        told = gained(before, page(house))
        assert told[requests("upload_whole", "gone")] == 1
        assert page(house)["edgeproxy_uploads_in_flight"] == 0


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len(set(OPERATION_NAMES.values())) == len(OPERATION_NAMES)
