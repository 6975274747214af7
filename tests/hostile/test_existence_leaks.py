"""What a caller may not pull does not exist for it: by no route, status, header, byte or list does it show."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.hostile.harness import LAYER, MANIFEST, POLICY, World
from tests.http.harness import Reply, digest_of, image

SECRET_LAYER = b"a layer that only acme/secret holds"
SECRET = image(SECRET_LAYER)
DIGEST, SECRET_DIGEST = digest_of(LAYER), digest_of(SECRET_LAYER)
HIDING = POLICY + 'hide: ["acme/secret/**"]\n'
HEADERS = {"content-type": "application/vnd.oci.image.manifest.v1+json"}


@dataclass(frozen=True)
class Probe:
    """A request about a repository `{name}`."""

    method: str
    path: str
    body: bytes | None = None

    async def send(self, world: World, name: str, token: str) -> Reply:
        headers = HEADERS if self.method == "PUT" else {}
        return await world.ask(
            self.method, self.path.replace("{name}", name), token=token, headers=headers, body=self.body
        )


PROBES = {
    "a manifest by tag": Probe("GET", "/v2/{name}/manifests/latest"),
    "a manifest by digest": Probe("GET", f"/v2/{{name}}/manifests/{digest_of(SECRET)}"),
    "the head of a manifest": Probe("HEAD", "/v2/{name}/manifests/latest"),
    "a blob": Probe("GET", f"/v2/{{name}}/blobs/{SECRET_DIGEST}"),
    "the head of a blob": Probe("HEAD", f"/v2/{{name}}/blobs/{SECRET_DIGEST}"),
    "tags": Probe("GET", "/v2/{name}/tags/list"),
    "referrers": Probe("GET", f"/v2/{{name}}/referrers/{digest_of(SECRET)}"),
    "an upload": Probe("POST", "/v2/{name}/blobs/uploads/", b""),
    "a blob in one": Probe("POST", f"/v2/{{name}}/blobs/uploads/?digest={SECRET_DIGEST}", SECRET_LAYER),
    "a mount into it": Probe("POST", f"/v2/{{name}}/blobs/uploads/?mount={DIGEST}&from=acme/app", b""),
    "a manifest that comes": Probe("PUT", "/v2/{name}/manifests/x", SECRET),
    "a tag that goes": Probe("DELETE", "/v2/{name}/manifests/latest"),
    "a blob that goes": Probe("DELETE", f"/v2/{{name}}/blobs/{SECRET_DIGEST}"),
}


@pytest.fixture
async def secret(world: World) -> World:
    """Give a registry that holds two repositories which builds may not see."""
    for name in ("acme/secret/one", "zeta"):
        await world.push(name, "latest", SECRET_LAYER)
    world.set_policy(HIDING)
    return world


def without_name(reply: Reply, name: str) -> tuple[object, ...]:
    headers = [(key, value.replace(name, "NAME")) for key, value in reply.headers if key != "content-length"]
    return reply.status, headers, reply.body.replace(name.encode(), b"NAME")


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
@pytest.mark.parametrize("kind", ["token", "bearer", "narrow bearer", "anonymous bearer", "anonymous"])
async def test_a_hidden_repository_is_answered_as_one_that_does_not_exist(
    secret: World, probe: Probe, kind: str
) -> None:
    there, not_there = "acme/secret/one", "acme/secret/two"
    token = {
        "token": secret.build(),
        "bearer": await secret.bearer(secret.build(), there, not_there),
        "narrow bearer": await secret.bearer(secret.build(), "acme/app"),
        "anonymous bearer": await secret.bearer(None, there, not_there),
        "anonymous": "",
    }[kind]
    found, missing = await probe.send(secret, there, token), await probe.send(secret, not_there, token)
    assert without_name(found, there) == without_name(missing, not_there)
    assert found.status == (404 if kind in ("token", "bearer", "anonymous bearer") else 401)
    if probe.method != "HEAD" and found.status == 404:
        assert found.error == (404, "NAME_UNKNOWN")
        assert "rule" not in found.message
    twin = await probe.send(secret, there, secret.person("admins"))
    assert twin.status < 400


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
async def test_a_refusal_is_the_same_whether_the_repository_is_there_or_not(secret: World, probe: Probe) -> None:
    token = secret.build()
    found, missing = await probe.send(secret, "zeta", token), await probe.send(secret, "zero", token)
    assert without_name(found, "zeta") == without_name(missing, "zero")
    assert found.status == 403
    assert not secret.store.calls["stream"]
    assert (await probe.send(secret, "zeta", secret.person("admins"))).status < 400


async def test_a_hidden_refusal_is_what_an_entitled_caller_gets_for_a_repository_that_is_not_there(
    secret: World,
) -> None:
    """The reader of hidden repositories and the stranger to them see the same for one that does not exist."""
    path = "/v2/acme/secret/two/tags/list"
    stranger = await secret.ask("GET", path, token=secret.build())
    entitled = await secret.ask("GET", path, token=secret.person("admins"))
    assert stranger.error == entitled.error == (404, "NAME_UNKNOWN")
    assert stranger.message == entitled.message


async def test_a_refusal_asks_the_store_nothing(secret: World) -> None:
    before = secret.store.total
    for probe in PROBES.values():
        await probe.send(secret, "acme/secret/one", secret.build())
        await probe.send(secret, "zeta", secret.build())
        await probe.send(secret, "zeta", "")
    assert secret.store.total == before


# Knowing a digest is not holding it.


async def test_a_digest_alone_gives_nothing_in_another_repository(secret: World) -> None:
    token = secret.build()
    for method in ("GET", "HEAD"):
        reply = await secret.ask(method, f"/v2/acme/app/blobs/{SECRET_DIGEST}", token=token)
        assert reply.status == 404
        unheard_of = await secret.ask(method, f"/v2/acme/app/blobs/{digest_of(b'unheard of')}", token=token)
        assert unheard_of.status == 404
    manifest = await secret.ask("GET", f"/v2/acme/app/manifests/{digest_of(SECRET)}", token=token)
    assert manifest.error == (404, "MANIFEST_UNKNOWN")
    assert (await secret.ask("GET", f"/v2/acme/app/blobs/{DIGEST}", token=token)).status == 307


@pytest.mark.parametrize("source", ["acme/secret/one", "acme/secret/two", "zeta", "zero", "acme/app/../secret", ""])
async def test_a_mount_tells_nothing_of_a_repository_that_the_caller_may_not_pull(secret: World, source: str) -> None:
    target = f"/v2/acme/app/blobs/uploads/?mount={SECRET_DIGEST}&from={source}"
    reply = await secret.ask("POST", target, token=secret.build(), body=b"")
    assert reply.status == 202
    assert (await secret.ask("HEAD", f"/v2/acme/app/blobs/{SECRET_DIGEST}", token=secret.build())).status == 404
    events = [event for event in await secret.told() if event.get("mounted_from")]
    assert not events
    twin = await secret.ask(
        "POST", target.replace("from=" + source, "from=zeta"), token=secret.person("admins"), body=b""
    )
    assert twin.status == 201


async def test_a_mount_without_a_source_takes_from_nowhere(secret: World) -> None:
    target = f"/v2/acme/app/blobs/uploads/?mount={SECRET_DIGEST}"
    assert (await secret.ask("POST", target, token=secret.build(), body=b"")).status == 202
    target = f"/v2/acme/app/blobs/uploads/?mount={DIGEST}&from=public/app"
    assert (await secret.ask("POST", target, token=secret.build(), body=b"")).status == 201


async def test_an_upload_of_a_blob_that_the_bucket_has_says_nothing_about_it(secret: World) -> None:
    """Neither is the upload cut short because the bytes are there, nor are they given to who shows others."""
    token = secret.build()
    for stated, status in ((digest_of(b"unheard of"), 400), (SECRET_DIGEST, 400)):
        reply = await secret.ask(
            "POST", f"/v2/acme/app/blobs/uploads/?digest={stated}", token=token, body=b"other bytes"
        )
        assert reply.status == status
        assert reply.error == (400, "DIGEST_INVALID")
        started = await secret.ask("POST", "/v2/acme/app/blobs/uploads/", token=token, body=b"")
        finished = await secret.ask("PUT", f"{started.header('location')}?digest={stated}", token=token, body=b"")
        assert finished.error[0] == 400
        assert (await secret.ask("HEAD", f"/v2/acme/app/blobs/{stated}", token=token)).status == 404
    (await secret.push_blob("acme/app", SECRET_LAYER, token=token)).expect(201)
    (await secret.ask("HEAD", f"/v2/acme/app/blobs/{SECRET_DIGEST}", token=token)).expect(200)


async def test_a_manifest_that_names_a_foreign_blob_is_refused_as_one_that_names_nothing(secret: World) -> None:
    token = secret.build()
    foreign = await secret.put("acme/app", "x", image(SECRET_LAYER), token=token)
    nothing = await secret.put("acme/app", "x", image(b"unheard of, as long as the other."), token=token)
    assert foreign.error == nothing.error == (404, "MANIFEST_BLOB_UNKNOWN")
    neutral = [
        reply.body.replace(digest_of(layer).encode(), b"DIGEST")
        for reply, layer in ((foreign, SECRET_LAYER), (nothing, b"unheard of, as long as the other."))
    ]
    assert neutral[0] == neutral[1]
    (await secret.put("acme/app", "x", MANIFEST, token=token)).expect(201)


async def test_an_index_that_names_a_foreign_manifest_is_refused(secret: World) -> None:
    def index(manifest: bytes) -> bytes:
        child = {"mediaType": HEADERS["content-type"], "digest": digest_of(manifest), "size": len(manifest)}
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).encode()

    async def put(manifest: bytes) -> Reply:
        target = "/v2/acme/app/manifests/x"
        return await secret.ask(
            "PUT", target, token=secret.build(), headers={"content-type": INDEX}, body=index(manifest)
        )

    assert (await put(SECRET)).error[0] == 404
    assert (await put(MANIFEST)).status == 201


INDEX = "application/vnd.oci.image.index.v1+json"


async def test_who_may_pull_no_more_is_not_served_from_a_cache(secret: World) -> None:
    """Warm caches of manifests, links and decisions answer for those who may, and for nobody else."""
    token = await secret.bearer(secret.build(), "acme/app")
    paths = (
        "/v2/acme/app/manifests/latest",
        f"/v2/acme/app/manifests/{digest_of(MANIFEST)}",
        f"/v2/acme/app/blobs/{DIGEST}",
    )
    for path in paths:
        assert (await secret.ask("GET", path, token=token)).status in (200, 307)
        assert (await secret.ask("GET", path, token=secret.build({"ref": "x"}))).status == 403
        assert (await secret.ask("GET", path)).status == 401
    secret.set_policy(HIDING + 'deny:\n  - {name: shut, repositories: ["acme/app"], actions: [pull, push]}\n')
    for path in paths:
        assert (await secret.ask("GET", path, token=token)).status == 403


async def test_a_cached_answer_to_who_was_denied_says_nothing_to_who_may(secret: World) -> None:
    path = "/v2/acme/app/manifests/latest"
    for _ in range(2):
        assert (await secret.ask("GET", path, token=secret.build({"ref": "x"}))).status == 403
        (await secret.ask("GET", path, token=secret.build())).expect(200)
        assert (await secret.ask("GET", path, token=secret.staff.mint())).status == 403


# Lists.


async def test_the_catalog_shows_what_the_caller_may_pull_and_nothing_else(secret: World) -> None:
    async def listed(token: str, query: str = "") -> list[str]:
        names: list[str] = (
            (await secret.ask("GET", f"/v2/_catalog{query}", token=token)).expect(200).json["repositories"]
        )
        return names

    everything = ["acme/app", "acme/other", "acme/secret/one", "public/app", "zeta"]
    assert await listed(secret.person("admins")) == everything
    assert await listed(secret.person("readers")) == ["acme/app", "acme/other", "acme/secret/one", "public/app"]
    # May pull `acme/app`, but no rule of a build has `catalog`.
    assert await listed(secret.build()) == ["public/app"]
    assert await listed("") == ["public/app"]
    assert await listed(secret.build(), "?last=acme/secret/onf") == ["public/app"]


@pytest.mark.parametrize("n", [1, 2])
async def test_pages_of_the_catalog_point_at_no_name_that_is_not_shown(secret: World, n: int) -> None:
    target, seen = f"/v2/_catalog?n={n}", []
    while target:
        page = (await secret.ask("GET", target, token=secret.person("readers"))).expect(200)
        seen += page.json["repositories"]
        assert "zeta" not in str(page)
        target = page.header("link")[1:].partition(">")[0] if page.has("link") else ""
    assert seen == ["acme/app", "acme/other", "acme/secret/one", "public/app"]


async def test_can_i_says_nothing_about_what_exists(secret: World) -> None:
    async def may(name: str, token: str) -> bool:
        reply = await secret.ask("GET", f"/v2/_edgeproxy/can-i?repository={name}&action=pull", token=token)
        assert reply.json == {"allowed": reply.json["allowed"], "repository": name, "action": "pull"}
        return bool(reply.expect(200).json["allowed"])

    assert not await may("acme/secret/one", secret.build())
    assert not await may("acme/secret/two", secret.build())
    assert await may("acme/app", secret.build())
    assert await may("acme/app/none", secret.build())
    assert not secret.store.calls["read"]


async def test_tags_and_referrers_of_one_repository_are_not_shown_by_another(secret: World) -> None:
    token = secret.build()
    admin = secret.person("admins")
    child = {"mediaType": HEADERS["content-type"], "digest": digest_of(MANIFEST), "size": len(MANIFEST)}
    statement = image(LAYER, subject=child)
    (await secret.put("acme/other", "statement", statement, token=admin)).expect(201)
    mine = await secret.ask("GET", f"/v2/acme/app/referrers/{digest_of(MANIFEST)}", token=token)
    assert mine.json["manifests"] == []
    theirs = await secret.ask("GET", f"/v2/acme/other/referrers/{digest_of(MANIFEST)}", token=admin)
    assert [entry["digest"] for entry in theirs.json["manifests"]] == [digest_of(statement)]
    assert (await secret.ask("GET", "/v2/acme/app/tags/list", token=token)).json["tags"] == ["latest"]
    (await secret.put("acme/app", "statement", statement, token=token)).expect(201)
    mine = await secret.ask("GET", f"/v2/acme/app/referrers/{digest_of(MANIFEST)}", token=token)
    assert len(mine.json["manifests"]) == 1


# Upload sessions.


async def test_a_session_is_no_other_caller_s_no_other_repository_s_and_ends(secret: World) -> None:
    mine, theirs = secret.build(), secret.build({"sub": "another"})
    started = await secret.ask("POST", "/v2/acme/app/blobs/uploads/", token=mine, body=b"")
    location = started.expect(202).header("location")
    session = location.rpartition("/")[2]
    digest = digest_of(b"x")
    forged = session[:-2] + ("AA" if session[-2:] != "AA" else "BB")
    for method, target, token in (
        ("PATCH", location, theirs),
        ("GET", location, theirs),
        ("PUT", f"{location}?digest={digest}", theirs),
        ("DELETE", location, theirs),
        ("PATCH", location, secret.staff.mint({"groups": ["admins"], "sub": "someone"})),
        ("PATCH", f"/v2/acme/app/sub/blobs/uploads/{session}", mine),
        ("PUT", f"/v2/acme/app/sub/blobs/uploads/{session}?digest={digest}", mine),
        ("PATCH", f"/v2/acme/app/blobs/uploads/{forged}", mine),
        ("PATCH", f"/v2/acme/app/blobs/uploads/{session}AA", mine),
    ):
        reply = await secret.ask(method, target, token=token, body=None if method == "GET" else b"x")
        assert reply.error == (404, "BLOB_UPLOAD_UNKNOWN"), (method, target)
    (await secret.ask("GET", location, token=mine)).expect(204)
    after = (await secret.ask("PATCH", location, token=mine, body=b"x")).expect(202).header("location")
    (await secret.ask("PUT", f"{after}?digest={digest}", token=mine, body=b"")).expect(201)
    replayed = await secret.ask("PATCH", after, token=mine, body=b"y")
    assert replayed.status in (404, 416)
    secret.clock.advance(24 * 3600 + 1)
    fresh = {"exp": secret.clock.now + 300, "iat": secret.clock.now}
    assert (await secret.ask("PATCH", location, token=secret.build(fresh), body=b"x")).error[0] == 404


async def test_a_session_goes_on_with_a_fresh_token_of_the_same_caller_but_not_past_a_denial(secret: World) -> None:
    started = await secret.ask("POST", "/v2/acme/app/blobs/uploads/", token=secret.build(), body=b"")
    location = started.header("location")
    fresh = secret.build({"jti": "another token"})
    location = (await secret.ask("PATCH", location, token=fresh, body=b"x")).expect(202).header("location")
    secret.set_policy(HIDING + 'deny:\n  - {name: shut, repositories: ["acme/app"], actions: [push]}\n')
    assert (await secret.ask("PATCH", location, token=fresh, body=b"y")).error == (403, "DENIED")
    finish = f"{location}?digest={digest_of(b'x')}"
    assert (await secret.ask("PUT", finish, token=fresh, body=b"")).error == (403, "DENIED")
    secret.set_policy(HIDING)
    (await secret.ask("PUT", finish, token=fresh, body=b"")).expect(201)
