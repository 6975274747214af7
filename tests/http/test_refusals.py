"""Every refusal with its exact words, beside the request one step away that is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.http.harness import IMAGE, House, Reply, digest_of, image, in_session, on_directory

BLOB = b"blob"
DIGEST = digest_of(BLOB)
OTHER = digest_of(b"other")
MANIFEST = image(BLOB)
JSON = {"content-type": IMAGE}


@pytest.fixture
async def ready(tmp_path: Path) -> AsyncIterator[House]:
    async with on_directory(tmp_path, max_blob_bytes=1000, max_manifest_bytes=2000) as found:
        for blob in (b"{}", BLOB):
            await found.push_blob("acme/app", blob)
        (await found.put_manifest("acme/app", "latest", MANIFEST)).expect(201)
        (await found.put_manifest("acme/app", "v1", MANIFEST)).expect(201)
        yield found


@dataclass(frozen=True)
class Ask:
    """A request. `{upload}` stands for the Location of a session that has three bytes."""

    method: str
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, house: House) -> Reply:
        target = self.target
        if "{upload}" in target:
            location = await house.start_upload("acme/app")
            location = (await house.ask("PATCH", location, body=b"abc")).header("location")
            target = target.replace("{upload}", location)
        return await house.ask(self.method, target, body=self.body, headers=self.headers)


@dataclass(frozen=True)
class Refusal:
    """A request that is refused, with which words, and its twin that is accepted with `accepted`."""

    refused: Ask
    status: int
    code: str
    message: str
    twin: Ask
    accepted: int
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


APP = "/v2/acme/app"
UPLOADS = f"{APP}/blobs/uploads/"
NAME_RULE = (
    "is not valid: components of lower-case letters and digits, joined by '.', '_', '__' or dashes, separated by '/'"
)
DIGEST_RULE = "is not valid: expected 'sha256:' and 64, or 'sha512:' and 128, lower-case hexadecimal digits"
TAG_RULE = "is not valid: at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"

TABLE = {
    "a repository name in capitals": Refusal(
        Ask("GET", "/v2/Acme/app/tags/list"), 400, "NAME_INVALID", f"repository name 'Acme/app' {NAME_RULE}",
        Ask("GET", f"{APP}/tags/list"), 200,
    ),
    "a repository name of 256 characters": Refusal(
        Ask("POST", f"/v2/{'a' * 256}/blobs/uploads/", b""), 400, "NAME_INVALID", "repository name is longer than 255 characters",
        Ask("POST", f"/v2/{'a' * 255}/blobs/uploads/", b""), 202,
    ),
    "a tag that begins with a dot": Refusal(
        Ask("PUT", f"{APP}/manifests/.latest", MANIFEST, JSON), 400, "MANIFEST_INVALID", f"tag '.latest' {TAG_RULE}",
        Ask("PUT", f"{APP}/manifests/latest.", MANIFEST, JSON), 201,
    ),
    "a tag of 129 characters": Refusal(
        Ask("PUT", f"{APP}/manifests/{'a' * 129}", MANIFEST, JSON), 400, "MANIFEST_INVALID", f"tag '{'a' * 77}...' {TAG_RULE}",
        Ask("PUT", f"{APP}/manifests/{'a' * 128}", MANIFEST, JSON), 201,
    ),
    "a digest in capitals": Refusal(
        Ask("GET", f"{APP}/blobs/{DIGEST.upper()}"), 400, "DIGEST_INVALID", f"digest '{DIGEST.upper()}' {DIGEST_RULE}",
        Ask("GET", f"{APP}/blobs/{DIGEST}"), 307,
    ),
    "a digest that is too short": Refusal(
        Ask("GET", f"{APP}/manifests/{DIGEST[:-1]}"), 400, "DIGEST_INVALID",
        f"digest '{DIGEST[:-1]}' is not valid: 'sha256:' is followed by exactly 64 lower-case hexadecimal digits",
        Ask("GET", f"{APP}/manifests/{digest_of(MANIFEST)}"), 200,
    ),
    "a digest of an algorithm that is not registered": Refusal(
        Ask("GET", f"{APP}/referrers/md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "DIGEST_INVALID",
        f"digest 'md5:d41d8cd98f00b204e9800998ecf8427e' {DIGEST_RULE}",
        Ask("GET", f"{APP}/referrers/{OTHER}"), 200,
    ),
    "a blob that is not there": Refusal(
        Ask("GET", f"{APP}/blobs/{OTHER}"), 404, "BLOB_UNKNOWN", f"blob {OTHER} is not in repository acme/app",
        Ask("GET", f"{APP}/blobs/{DIGEST}"), 307, detail=OTHER,
    ),
    "a blob of another repository": Refusal(
        Ask("GET", f"/v2/acme/other/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN", f"blob {DIGEST} is not in repository acme/other",
        Ask("GET", f"{APP}/blobs/{DIGEST}"), 307, detail=DIGEST,
    ),
    "a tag that is not there": Refusal(
        Ask("GET", f"{APP}/manifests/none"), 404, "MANIFEST_UNKNOWN", "tag none is not in repository acme/app",
        Ask("GET", f"{APP}/manifests/latest"), 200, detail="none",
    ),
    "a manifest that is not there": Refusal(
        Ask("GET", f"{APP}/manifests/{OTHER}"), 404, "MANIFEST_UNKNOWN", f"manifest {OTHER} is not in repository acme/app",
        Ask("GET", f"{APP}/manifests/{digest_of(MANIFEST)}"), 200, detail=OTHER,
    ),
    "tags of a repository that is not there": Refusal(
        Ask("GET", "/v2/acme/none/tags/list"), 404, "NAME_UNKNOWN", "repository acme/none is not known to this registry",
        Ask("GET", f"{APP}/tags/list"), 200, detail="acme/none",
    ),
    "a range beyond the blob": Refusal(
        Ask("GET", f"{APP}/blobs/{DIGEST}", headers={"range": "bytes=4-"}), 416, "UNSUPPORTED",
        "Range 'bytes=4-' cannot be satisfied: the blob has 4 bytes",
        Ask("GET", f"{APP}/blobs/{DIGEST}", headers={"range": "bytes=3-"}), 307, headers={"content-range": "bytes */4"},
    ),
    "a page size that is no number": Refusal(
        Ask("GET", f"{APP}/tags/list?n=ten"), 400, "UNSUPPORTED", "the parameter 'n' is 'ten'; it is a number of entries, such as 100",
        Ask("GET", f"{APP}/tags/list?n=10"), 200,
    ),
    "a page size given twice": Refusal(
        Ask("GET", f"{APP}/tags/list?n=1&n=2"), 400, "UNSUPPORTED", "the parameter 'n' comes more than once, with different values; send it once",
        Ask("GET", f"{APP}/tags/list?n=1&n=1"), 200,
    ),
    "a method that a blob does not have": Refusal(
        Ask("PUT", f"{APP}/blobs/{DIGEST}", b""), 405, "UNSUPPORTED", "method 'PUT' is not supported here; use GET, HEAD, DELETE",
        Ask("HEAD", f"{APP}/blobs/{DIGEST}"), 200, headers={"allow": "GET, HEAD, DELETE"},
    ),
    "a method that no endpoint has": Refusal(
        Ask("TRACE", f"{APP}/manifests/latest"), 405, "UNSUPPORTED", "method 'TRACE' is not supported here; use GET, HEAD, PUT, DELETE",
        Ask("GET", f"{APP}/manifests/latest"), 200, headers={"allow": "GET, HEAD, PUT, DELETE"},
    ),
    "a path that is no endpoint": Refusal(
        Ask("GET", f"{APP}/tags/lists"), 404, "UNSUPPORTED", f"'{APP}/tags/lists' is no endpoint of this registry",
        Ask("GET", f"{APP}/tags/list"), 200,
    ),
    "a token that was never issued": Refusal(
        Ask("PATCH", f"{UPLOADS}abc", b"x"), 404, "BLOB_UPLOAD_UNKNOWN",
        "no such upload session in this repository for this caller; start the upload again",
        Ask("PATCH", "{upload}", b"x"), 202,
    ),
    "a token with characters that none has": Refusal(
        Ask("PATCH", f"{UPLOADS}a.b", b"x"), 404, "BLOB_UPLOAD_UNKNOWN", "'a.b' is no upload session; begin the upload again",
        Ask("PATCH", "{upload}", b"x"), 202,
    ),
    "an end of an upload without digest": Refusal(
        Ask("PUT", "{upload}", b""), 400, "DIGEST_INVALID",
        "the parameter 'digest' is missing; an upload is finished with ?digest=<digest of the blob>",
        Ask("PUT", in_session("{upload}", digest_of(b"abc")), b""), 201,
    ),
    "an end of an upload with another digest": Refusal(
        Ask("PUT", in_session("{upload}", OTHER), b""), 400, "DIGEST_INVALID",
        f"the uploaded bytes have digest {digest_of(b'abc')}, not {OTHER} as stated (3 bytes)",
        Ask("PUT", in_session("{upload}", digest_of(b"abc")), b""), 201, detail=f"stated {OTHER}, computed {digest_of(b'abc')}",
    ),
    "a chunk with a range that is none": Refusal(
        Ask("PATCH", "{upload}", b"d", {"content-range": "3-"}), 400, "BLOB_UPLOAD_INVALID",
        "Content-Range '3-' is not valid; send <first>-<last>, such as 0-1023",
        Ask("PATCH", "{upload}", b"d", {"content-range": "3-3"}), 202,
    ),
    "a chunk whose range is not its length": Refusal(
        Ask("PATCH", "{upload}", b"d", {"content-range": "3-4"}), 400, "SIZE_INVALID", "Content-Range 3-4 names 2 bytes, Content-Length 1",
        Ask("PATCH", "{upload}", b"d", {"content-range": "3-3"}), 202,
    ),
    "a chunk that leaves a gap": Refusal(
        Ask("PATCH", "{upload}", b"d", {"content-range": "4-4"}), 416, "BLOB_UPLOAD_INVALID",
        "the chunk does not continue the upload, which has 3 bytes: send the bytes from 3 on to the Location given",
        Ask("PATCH", "{upload}", b"d", {"content-range": "3-3"}), 202, headers={"range": "0-2"},
    ),
    "a blob above the limit": Refusal(
        Ask("POST", f"{UPLOADS}?digest={digest_of(b'x' * 1001)}", b"x" * 1001), 413, "SIZE_INVALID",
        "the blob is larger than this registry accepts (1000 bytes)",
        Ask("POST", f"{UPLOADS}?digest={digest_of(b'x' * 1000)}", b"x" * 1000), 201,
    ),
    "a hash that is not registered": Refusal(
        Ask("POST", f"{UPLOADS}?digest-algorithm=md5", b""), 400, "DIGEST_INVALID", "digest-algorithm 'md5' is not one of sha256, sha512",
        Ask("POST", f"{UPLOADS}?digest-algorithm=sha512", b""), 202,
    ),
    "an empty manifest": Refusal(
        Ask("PUT", f"{APP}/manifests/x", b"", JSON), 400, "MANIFEST_INVALID", "the manifest is empty; send it as the body of the request",
        Ask("PUT", f"{APP}/manifests/x", MANIFEST, JSON), 201,
    ),
    "a manifest without media type": Refusal(
        Ask("PUT", f"{APP}/manifests/x", b'{"a": 1}'), 400, "MANIFEST_INVALID", "the request has no Content-Type; send the media type of the manifest",
        Ask("PUT", f"{APP}/manifests/x", MANIFEST), 201,
    ),
    "a manifest above the limit": Refusal(
        Ask("PUT", f"{APP}/manifests/x", MANIFEST.ljust(2001), JSON), 413, "MANIFEST_INVALID",
        "the manifest is larger than this registry accepts (2000 bytes)",
        Ask("PUT", f"{APP}/manifests/x", MANIFEST.ljust(2000), JSON), 201,
    ),
    "a manifest with another digest": Refusal(
        Ask("PUT", f"{APP}/manifests/{OTHER}", MANIFEST, JSON), 400, "DIGEST_INVALID",
        f"the manifest has digest {digest_of(MANIFEST)}, not {OTHER} as stated",
        Ask("PUT", f"{APP}/manifests/{digest_of(MANIFEST)}", MANIFEST, JSON), 201,
        detail=f"stated {OTHER}, computed {digest_of(MANIFEST)}",
    ),
    "a manifest with a missing layer": Refusal(
        Ask("PUT", f"{APP}/manifests/x", image(b"other"), JSON), 404, "MANIFEST_BLOB_UNKNOWN",
        f"the manifest names content that is not in repository acme/app: {OTHER}; push it first",
        Ask("PUT", f"{APP}/manifests/x", MANIFEST, JSON), 201, detail=OTHER,
    ),
    "a manifest whose type is another": Refusal(
        Ask("PUT", f"{APP}/manifests/x", MANIFEST, {"content-type": "application/vnd.docker.distribution.manifest.v2+json"}),
        400, "MANIFEST_INVALID",
        "Content-Type is 'application/vnd.docker.distribution.manifest.v2+json', but the manifest's mediaType is"
        f" '{IMAGE}'; they must be equal",
        Ask("PUT", f"{APP}/manifests/x", MANIFEST, JSON), 201,
    ),
    "a tag parameter beside a tag": Refusal(
        Ask("PUT", f"{APP}/manifests/x?tag=y", MANIFEST, JSON), 400, "MANIFEST_INVALID",
        "the manifest is pushed as tag 'x'; the parameter 'tag' goes with a digest only",
        Ask("PUT", f"{APP}/manifests/{digest_of(MANIFEST)}?tag=y", MANIFEST, JSON), 201,
    ),
    "more than a hundred tags": Refusal(
        Ask("PUT", f"{APP}/manifests/{digest_of(MANIFEST)}?" + "&".join(f"tag=t{n}" for n in range(101)), MANIFEST, JSON),
        414, "MANIFEST_INVALID", "the request sets 101 tags, and at most 100 go with one push; push again for the rest",
        Ask("PUT", f"{APP}/manifests/{digest_of(MANIFEST)}?tag=t1&tag=t2", MANIFEST, JSON), 201,
    ),
    "an immutable tag that would move": Refusal(
        Ask("PUT", f"{APP}/manifests/v1", image(), JSON), 403, "DENIED",
        "tag v1 of acme/app is immutable and points at another manifest; push under a new tag (request r1)",
        Ask("PUT", f"{APP}/manifests/v1", MANIFEST, JSON), 201, detail="immutable tag",
    ),
    "an immutable tag that would go": Refusal(
        Ask("DELETE", f"{APP}/manifests/v1"), 403, "DENIED",
        "tag v1 of acme/app is immutable and cannot be deleted (request r1)",
        Ask("DELETE", f"{APP}/manifests/latest"), 202, detail="immutable tag",
    ),
    "a manifest under an immutable tag that would go": Refusal(
        Ask("DELETE", f"{APP}/manifests/{digest_of(MANIFEST)}"), 403, "DENIED",
        f"manifest {digest_of(MANIFEST)} cannot be deleted: immutable tag v1 of acme/app points at it (request r1)",
        Ask("DELETE", f"{APP}/manifests/latest"), 202, detail="immutable tag",
    ),
    "a query that is too long": Refusal(
        Ask("GET", f"{APP}/tags/list?x={'a' * 16383}"), 414, "UNSUPPORTED", "the query has 16385 bytes, and at most 16384 are read",
        Ask("GET", f"{APP}/tags/list?x={'a' * 16382}"), 200,
    ),
    "a query with half an escape": Refusal(
        Ask("GET", f"{APP}/tags/list?last=%4"), 400, "UNSUPPORTED", "the query has '%4' where '%' and two hexadecimal digits belong",
        Ask("GET", f"{APP}/tags/list?last=%41"), 200,
    ),
    "a question that lacks its action": Refusal(
        Ask("GET", "/v2/_edgeproxy/can-i?repository=acme/app"), 400, "UNSUPPORTED",
        "the parameter 'action' is missing; ask ?repository=<name>&action=<action>",
        Ask("GET", "/v2/_edgeproxy/can-i?repository=acme/app&action=pull"), 200,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE)
async def test_a_refusal_has_its_words_and_its_twin_is_accepted(ready: House, case: Refusal) -> None:
    reply = await case.refused.send(ready)
    error: dict[str, Any] = {"code": case.code, "message": case.message}
    if case.detail is not None:
        error["detail"] = case.detail
    assert (reply.status, reply.json) == (case.status, {"errors": [error]})
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-length") == str(len(reply.body))
    for name, value in case.headers.items():
        assert reply.header(name) == value
    assert reply.complete
    assert (await case.twin.send(ready)).status == case.accepted


HEADS = {
    name: case
    for name, case in TABLE.items()
    if case.refused.method == "GET"
    and "range" not in name
    and ("/blobs/" in case.refused.target or "/manifests/" in case.refused.target)
}


@pytest.mark.parametrize("case", HEADS.values(), ids=HEADS)
async def test_a_refusal_of_a_head_has_the_headers_of_its_get_and_no_body(ready: House, case: Refusal) -> None:
    got = await case.refused.send(ready)
    head = await Ask("HEAD", case.refused.target).send(ready)
    assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


PATHS = [
    "/v2/acme/../app/tags/list",
    "/v2/%2e%2e/app/tags/list",
    "/v2/acme%2fapp/tags/list",
    "/v2/acme//app/tags/list",
    "/v2/acme/./app/tags/list",
    "/v2/acme/app%00/tags/list",
    "/v2/acme/app\x00/tags/list",
    "/v2/_uploads/tags/list",
    "/v2/acme/_manifests/x/tags/list",
    "/v2/acme/\xe4pp/tags/list",
    "/v2/acme/app;x/tags/list",
    "/v2/acme\\app/tags/list",
    "/v2/ acme/app/tags/list",
    "/v2/acme/app\r\nx/tags/list",
    "/v2//tags/list",
    "/v2/acme/app/manifests/..",
    "/v2/acme/app/manifests/%2e%2e",
    "/v2/acme/app/manifests/a%2fb",
    "/v2/acme/app/manifests/sha256:../../x",
    "/v2/acme/app/blobs/sha256:..%2f..%2fx",
    "/v2/acme/app/blobs/../../catalog",
    "/v2/acme/app/blobs/uploads/../x",
    "/v2/acme/app/blobs/uploads/%2e%2e",
    "/v2/acme/app/referrers/..",
]


@pytest.mark.parametrize("path", PATHS)
async def test_path_and_key_injection_is_prevented(tmp_path: Path, path: str) -> None:
    """What is no name never becomes a key: every method is refused in the specification's words and nothing is written."""
    async with on_directory(tmp_path) as house:
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
            reply = await house.ask(method, path, body=b"x", headers=JSON)
            assert reply.status in {400, 404, 405}, (method, reply)
            assert not reply.has("location")
        assert [info.key async for info in house.store.list("")] == []


async def test_names_that_look_like_endpoints_are_names(ready: House) -> None:
    for name in ("blobs", "manifests/tags", "uploads/blobs", "acme/blobs/uploads", "tags/list/x"):
        await ready.push_blob(name, b"{}")
        (await ready.put_manifest(name, "list", image())).expect(201)
        (await ready.ask("GET", f"/v2/{name}/manifests/list")).expect(200)
        assert (await ready.ask("GET", f"/v2/{name}/tags/list")).json == {"name": name, "tags": ["list"]}


@pytest.mark.parametrize(
    "content",
    [
        b'{"schemaVersion": 2, "mediaType": "%s", "config": {}, "layers": [], "manifests": []}' % IMAGE.encode(),
        MANIFEST.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "schemaVersion": 2'),
        MANIFEST.replace(b'"layers"', b'"manifests": [], "layers"'),
        MANIFEST.replace(b'"layers"', b'"fsLayers": [], "layers"'),
        MANIFEST.replace(b"sha256:", b"SHA256:"),
        MANIFEST.replace(b'"size": 4', b'"size": 4.0'),
        MANIFEST.replace(b'"size": 4', b'"size": -4'),
        MANIFEST[:-1],
        b"[" * 100_000,
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
        MANIFEST.replace(b"schemaVersion", b"SchemaVersion"),
        b"\xff\xfe" + MANIFEST,
    ],
)
async def test_digest_confusion_is_prevented(tmp_path: Path, content: bytes) -> None:
    """What two readers could take for two things is refused (CVE-2021-41190), and nothing is written."""
    async with on_directory(tmp_path) as house:
        for blob in (b"{}", BLOB):
            await house.push_blob("acme/app", blob)
        for reference in ("latest", digest_of(content)):
            assert (await house.put_manifest("acme/app", reference, content)).error == (400, "MANIFEST_INVALID")
        assert [info.key async for info in house.store.list("repos/acme/app/_manifests/")] == []
        (await house.put_manifest("acme/app", "latest", MANIFEST)).expect(201)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (f"{APP}/referrers/{OTHER}?artifactType=a%0d%0aSet-Cookie:%20x", {}),
        (f"{APP}/tags/list?last=a%0d%0aLink:%20x", {}),
        (f"{APP}/tags/list?n=1%0d%0a", {}),
        (f"{APP}/manifests/latest%0d%0aX:y", {}),
        (f"{APP}/blobs/{DIGEST}%0d%0aX:y", {}),
        ("/v2/", {"x-request-id": "a\r\nX-Injected: y"}),
        (f"{APP}/manifests/none", {"x-request-id": 'a"b'}),
        (f"{APP}/referrers/{OTHER}?last=%0a", {}),
    ],
)
async def test_header_injection_is_prevented(ready: House, target: str, headers: dict[str, str]) -> None:
    reply = await ready.ask("GET", target, headers=headers)
    for name, value in reply.headers:
        assert not {"\r", "\n", "\0"} & set(name + value)
        assert name != "x-injected"
    assert b"\r" not in reply.body
    assert b"\n" not in reply.body


async def test_a_media_type_with_line_breaks_is_not_stored(ready: House) -> None:
    for media_type in ("application/x\r\nX: y", "application/x y", "nothing", "a/" + "b" * 300):
        refused = await ready.put_manifest("acme/app", "x", b"{}", media_type)
        assert refused.error == (400, "MANIFEST_INVALID")
    (await ready.put_manifest("acme/app", "x", b"{}", "application/x")).expect(201)


async def test_two_different_content_types_are_refused(ready: House) -> None:
    twice = [("content-type", IMAGE), ("content-type", "application/x")]
    refused = await ready.ask("PUT", f"{APP}/manifests/x", body=MANIFEST, headers=twice)
    assert refused.error == (400, "UNSUPPORTED")
    assert refused.message == "the header content-type comes more than once with different values"
    same = [("content-type", IMAGE), ("content-type", IMAGE)]
    (await ready.ask("PUT", f"{APP}/manifests/x", body=MANIFEST, headers=same)).expect(201)


async def test_host_and_forwarding_headers_decide_nothing(ready: House) -> None:
    for headers in (
        {"host": "evil.example/v2/public?"},
        {"host": "a b"},
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
        {"forwarded": "host=evil.example"},
        {"x-original-url": "/v2/", "x-rewrite-url": "/v2/"},
    ):
        reply = await ready.ask("GET", f"{APP}/blobs/{DIGEST}", headers=headers)
        assert reply.expect(307).header("location").startswith("http://store.example/blobs/sha256/")
        started = await ready.ask("POST", UPLOADS, body=b"", headers=headers)
        assert started.header("location").startswith(UPLOADS)
