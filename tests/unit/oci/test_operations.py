"""The one parse of the request line: nothing outside the grammar gets through, everything inside reads back."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeproxy.oci import operations as ops
from edgeproxy.oci.errors import (
    BadRequest,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestInvalid,
    NameInvalid,
    NotFound,
    RegistryError,
    TooManyTags,
    Unsupported,
    UriTooLong,
)
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.oci.requests import parse
from edgeproxy.oci.targets import target

HEX = "0123456789abcdef" * 4
DIGEST = Digest("sha256", HEX)
APP = Repository("acme/app")
BLOB = f"/v2/acme/app/blobs/{DIGEST}"
UPLOADS = "/v2/acme/app/blobs/uploads/"
MANIFEST = f"/v2/acme/app/manifests/{DIGEST}"

# Components that are also words of paths, so that names made of them look like endpoints.
WORDS = ["blobs", "manifests", "uploads", "tags", "list", "referrers", "v2", "latest", "a", "sha256", "0-0", "x__y"]

repositories = st.builds(
    lambda parts: Repository("/".join(parts)),
    st.lists(st.sampled_from(WORDS) | st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), min_size=1, max_size=7),
)
digests = st.sampled_from(["sha256", "sha512"]).flatmap(
    lambda name: st.builds(
        Digest, st.just(name), st.from_regex("[0-9a-f]{64}" if name == "sha256" else "[0-9a-f]{128}", fullmatch=True)
    )
)
tags = st.builds(
    Tag,
    st.sampled_from([*WORDS, "V1", "_", "A.b-c"]) | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True),
)
sessions = st.sampled_from(WORDS) | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
pages = st.none() | st.integers(0, 10_000)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=255)
markers = st.just("") | st.builds(lambda digest: f"{digest.algorithm}-{digest.hex}", digests)

OPERATIONS: dict[str, st.SearchStrategy[ops.Operation]] = {
    "GET": st.one_of(
        st.just(ops.Ping()),
        st.just(ops.WhoAmI()),
        st.builds(ops.CanI, repositories, st.sampled_from(ops.Action)),
        st.builds(ops.ListCatalog, pages, printable),
        st.builds(ops.ListTags, repositories, pages, printable),
        st.builds(ops.ListReferrers, repositories, digests, st.none() | printable.filter(bool), markers),
        st.builds(ops.GetBlob, repositories, digests, head=st.just(False)),
        st.builds(ops.GetManifest, repositories, digests | tags, head=st.just(False)),
        st.builds(ops.UploadStatus, repositories, sessions),
    ),
    "HEAD": st.one_of(
        st.builds(ops.GetBlob, repositories, digests, head=st.just(True)),
        st.builds(ops.GetManifest, repositories, digests | tags, head=st.just(True)),
    ),
    "POST": st.one_of(
        st.builds(ops.StartUpload, repositories, st.sampled_from([None, "sha256", "sha512"])),
        st.builds(ops.UploadWhole, repositories, digests),
        st.builds(ops.MountBlob, repositories, digests, st.none() | repositories),
    ),
    "PATCH": st.builds(ops.AppendUpload, repositories, sessions),
    "PUT": st.one_of(
        st.builds(ops.FinishUpload, repositories, sessions, digests),
        st.builds(ops.PutManifest, repositories, tags, st.just(())),
        st.builds(ops.PutManifest, repositories, digests, st.lists(tags, unique=True, max_size=20).map(tuple)),
    ),
    "DELETE": st.one_of(
        st.builds(ops.DeleteBlob, repositories, digests),
        st.builds(ops.DeleteManifest, repositories, digests | tags),
        st.builds(ops.CancelUpload, repositories, sessions),
    ),
}
requests = st.sampled_from(list(OPERATIONS)).flatmap(lambda method: st.tuples(st.just(method), OPERATIONS[method]))

# The specification's endpoints as one expression, to hold the parser against. It knows nothing of how the parser works.
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_DIGEST = r"(?:sha256(?::|%3[Aa])[0-9a-f]{64}|sha512(?::|%3[Aa])[0-9a-f]{128})"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
SPEC_PATH = re.compile(
    rf"/v2/?|/v2/_catalog|/v2/_edgeproxy/(?:whoami|can-i)|/v2/(?P<name>{_NAME})/(?:blobs/{_DIGEST}|manifests/(?:{_TAG}|{_DIGEST})"
    rf"|referrers/{_DIGEST}|tags/list|blobs/uploads/?|blobs/uploads/[A-Za-z0-9_-]{{1,1024}})"
)


def read(method: str, path_and_query: str) -> ops.Operation:
    path, _, query = path_and_query.partition("?")
    return parse(method, path.encode("latin-1"), query.encode("latin-1"))


def attempt(method: str, path: bytes, query: bytes) -> ops.Operation | RegistryError:
    try:
        return parse(method, path, query)
    except RegistryError as refused:
        return refused


@given(requests)
@example(("GET", ops.GetManifest(Repository("a/blobs/uploads/manifests"), Tag("list"), head=False)))
@example(("POST", ops.StartUpload(Repository("blobs/uploads/blobs/uploads"), None)))
def test_every_operation_reads_back_from_its_target(request_line: tuple[str, ops.Operation]) -> None:
    method, operation = request_line
    assert read(method, target(operation)) == operation


odd_parts = st.sampled_from(
    [
        *WORDS,
        "",
        "..",
        ".",
        "A",
        "é",
        "a%2fb",
        "%",
        "a\0",
        "_catalog",
        "_edgeproxy",
        "whoami",
        "can-i",
        "_x",
        str(DIGEST),
        f"sha256%3A{HEX}",
    ]
)
odd_paths = st.lists(odd_parts, max_size=8).map(lambda parts: "/v2/" + "/".join(parts)) | st.text(
    "/v2abAZ%.:\0é", max_size=12
)


@given(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), odd_paths)
def test_a_path_is_an_operation_exactly_if_the_specification_has_it(method: str, path: str) -> None:
    matched = SPEC_PATH.fullmatch(path)
    outcome: Any = attempt(method, path.encode("latin-1"), f"digest={DIGEST}&repository=a&action=pull".encode())
    if isinstance(outcome, Unsupported):
        # The path exists and the method does not, if 405; no such path otherwise.
        assert (matched is not None) == (outcome.status == 405)
        assert (outcome.status == 405) == ("Allow" in outcome.headers)
    elif isinstance(outcome, RegistryError):
        assert matched is None
    else:
        assert matched is not None
        if matched["name"] is not None:
            assert outcome.repository.name == matched["name"]
            assert target(outcome).partition("?")[0].rstrip("/") == re.sub("%3[Aa]", ":", path).rstrip("/")


@given(
    st.text(max_size=8),
    st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"/v2/" + tail),
    st.binary(max_size=60),
)
def test_arbitrary_bytes_are_an_operation_or_a_refusal_in_printable_words(
    method: str, path: bytes, query: bytes
) -> None:
    outcome = attempt(method, path, query)
    if isinstance(outcome, RegistryError):
        assert 400 <= outcome.status < 500
        assert outcome.message.isascii()
        assert outcome.message.isprintable()
        assert len(outcome.message) < 1200
    else:
        assert path.startswith(b"/v2")


@pytest.mark.parametrize(
    ("method", "line", "operation"),
    [
        ("GET", "/v2/", ops.Ping()),
        ("HEAD", "/v2", ops.Ping()),
        ("GET", "/v2/_catalog", ops.ListCatalog(None, "")),
        ("GET", "/v2/_edgeproxy/whoami", ops.WhoAmI()),
        ("GET", "/v2/_edgeproxy/can-i?repository=acme/app&action=push", ops.CanI(APP, ops.Action.PUSH)),
        ("GET", BLOB, ops.GetBlob(APP, DIGEST, head=False)),
        ("HEAD", BLOB, ops.GetBlob(APP, DIGEST, head=True)),
        ("GET", BLOB + "?ns=docker.io&x", ops.GetBlob(APP, DIGEST, head=False)),
        ("GET", BLOB.replace(":", "%3A"), ops.GetBlob(APP, DIGEST, head=False)),
        ("GET", MANIFEST.replace(":", "%3a"), ops.GetManifest(APP, DIGEST, head=False)),
        ("GET", "/v2/a/blobs/manifests/latest", ops.GetManifest(Repository("a/blobs"), Tag("latest"), head=False)),
        ("GET", "/v2/a/manifests/tags/list", ops.ListTags(Repository("a/manifests"), None, "")),
        ("GET", "/v2/a/tags/manifests/list", ops.GetManifest(Repository("a/tags"), Tag("list"), head=False)),
        ("GET", "/v2/a/blobs/uploads/list", ops.UploadStatus(Repository("a"), "list")),
        ("POST", "/v2/a/manifests/blobs/uploads", ops.StartUpload(Repository("a/manifests"), None)),
        ("POST", UPLOADS, ops.StartUpload(APP, None)),
        ("POST", UPLOADS[:-1] + "?digest-algorithm=sha512", ops.StartUpload(APP, "sha512")),
        ("POST", f"{UPLOADS}?digest={DIGEST}", ops.UploadWhole(APP, DIGEST)),
        ("POST", f"{UPLOADS}?digest=sha256%3A{HEX}", ops.UploadWhole(APP, DIGEST)),
        ("POST", f"{UPLOADS}?mount={DIGEST}&from=b/c&origin=x", ops.MountBlob(APP, DIGEST, Repository("b/c"))),
        ("POST", f"{UPLOADS}?mount={DIGEST}", ops.MountBlob(APP, DIGEST, None)),
        ("POST", f"{UPLOADS}?mount={DIGEST}&from=../B", ops.MountBlob(APP, DIGEST, None)),
        ("POST", f"{UPLOADS}?mount={DIGEST}&from=", ops.MountBlob(APP, DIGEST, None)),
        ("POST", f"{UPLOADS}?digest=junk&mount={DIGEST}", ops.MountBlob(APP, DIGEST, None)),
        ("PUT", f"{UPLOADS}s?digest={DIGEST}&digest={DIGEST}", ops.FinishUpload(APP, "s", DIGEST)),
        ("PATCH", UPLOADS + "s" * 1024, ops.AppendUpload(APP, "s" * 1024)),
        ("PUT", f"{MANIFEST}?tag=b&tag=a&tag=b", ops.PutManifest(APP, DIGEST, (Tag("b"), Tag("a")))),
        ("GET", "/v2/acme/app/tags/list?n=0&last=v1", ops.ListTags(APP, 0, "v1")),
        ("GET", "/v2/acme/app/tags/list?n=0000000100", ops.ListTags(APP, 100, "")),
        ("GET", "/v2/acme/app/tags/list?n=10001", ops.ListTags(APP, 10_000, "")),
        ("GET", "/v2/acme/app/tags/list?n=1000000000000", ops.ListTags(APP, 10_000, "")),
        ("GET", "/v2/acme/app/tags/list?n=" + "9" * 9000, ops.ListTags(APP, 10_000, "")),
        ("GET", "/v2/acme/app/tags/list?last=" + "x" * 256, ops.ListTags(APP, None, "x" * 256)),
        ("GET", f"/v2/a/referrers/{DIGEST}?artifactType=", ops.ListReferrers(Repository("a"), DIGEST, None, "")),
        (
            "GET",
            f"/v2/a/referrers/{DIGEST}?artifactType=a/b%2Bjson",
            ops.ListReferrers(Repository("a"), DIGEST, "a/b+json", ""),
        ),
        (
            "GET",
            f"/v2/a/referrers/{DIGEST}?artifactType=a/b+json",
            ops.ListReferrers(Repository("a"), DIGEST, "a/b+json", ""),
        ),
        ("GET", f"/v2/{'a' * 255}/tags/list", ops.ListTags(Repository("a" * 255), None, "")),
    ],
)
def test_a_request_line_means_this(method: str, line: str, operation: ops.Operation) -> None:
    assert read(method, line) == operation


@pytest.mark.parametrize(
    ("method", "line", "error"),
    [
        # Each is one step away from a line above.
        *(
            ("GET", f"/v2/{name}/tags/list", NameInvalid)
            for name in ["A", "a//b", "a/", "/a", "..", "a/../b", "a%2fb", "a%2Fb"]
        ),
        *(
            ("GET", f"/v2/{name}/tags/list", NameInvalid)
            for name in ["a\0", "a\r\nb", "é", "a b", "_a", "a" * 256, "%61", ""]
        ),
        *(
            ("GET", f"/v2/{rest}", NameInvalid)
            for rest in ["A/b", "a//b", "a/../b", "a/", "a%00", "é", "//", "a/tags/list/"]
        ),
        *(
            ("GET", f"/v2/{rest}", NotFound)
            for rest in ["a", "a/b", "a/manifests", "manifests/latest", "_edgeproxy", "a/tags/all"]
        ),
        *(
            ("GET", f"/v2/{rest}", NotFound)
            for rest in [
                "_edgeproxy/x",
                "a/_history/latest",
                "a/uploads/s",
                "a/xblobs/uploads/s",
                "a/blobsx/uploads/s",
                "a/blobs/x/uploads/s",
            ]
        ),
        *(
            ("GET", path, NotFound)
            for path in ["", "/", "/v1/", "/V2/", "/v2x", "v2/", "/%76%32/", "//v2/", "/x/v2/a/tags/list"]
        ),
        *(
            ("GET", f"/v2/a/blobs/{text}", DigestInvalid)
            for text in ["", "latest", "manifests", HEX, f"sha256:{HEX}0", f"md5:{HEX}"]
        ),
        *(
            ("GET", f"/v2/a/blobs/{text}", DigestInvalid)
            for text in [f"sha256%3a%3A{HEX}", f"sha256%253A{HEX}", f"sha256%:{HEX}", "é"]
        ),
        *(("GET", f"/v2/a/manifests/{text}", DigestInvalid) for text in ["sha256:baddigeststring", "a:b", "a%3Ab"]),
        *(
            ("GET", f"/v2/a/manifests/{text}", ManifestInvalid)
            for text in ["", "-a", "..", "%2e", "a%20b", "é", "a" * 129, "a\0"]
        ),
        *(("GET", f"/v2/a/referrers/{text}", DigestInvalid) for text in ["", "latest", "sha256:x"]),
        *(
            ("GET", f"{UPLOADS}{text}", BlobUploadUnknown)
            for text in ["a.b", "a%20", "é", "..", "s" * 1025, "a=", "a:b"]
        ),
        ("PUT", UPLOADS + "s", DigestInvalid),
        ("PUT", UPLOADS + "s?digest=", DigestInvalid),
        ("PUT", f"{UPLOADS}s?digest={DIGEST}&digest=sha256:{HEX[::-1]}", BadRequest),
        ("POST", UPLOADS + "?mount=", DigestInvalid),
        ("POST", UPLOADS + "?mount", DigestInvalid),
        ("POST", UPLOADS + "?digest=", DigestInvalid),
        ("POST", UPLOADS + "?digest-algorithm=md5", DigestInvalid),
        ("POST", UPLOADS + "?digest-algorithm=", DigestInvalid),
        ("POST", f"{UPLOADS}?mount={DIGEST}&from=a&from=b", BadRequest),
        ("POST", f"{UPLOADS}?mount={DIGEST}&mount={DIGEST}0", BadRequest),
        ("PUT", "/v2/a/manifests/latest?tag=latest", ManifestInvalid),
        ("PUT", f"{MANIFEST}?tag=-a", ManifestInvalid),
        ("PUT", f"{MANIFEST}?tag=", ManifestInvalid),
        *(
            ("GET", f"/v2/a/tags/list?{query}", BadRequest)
            for query in ["n=", "n=-1", "n=%2B1", "n=1.0", "n=x", "n=0x1", "n=1&n=2"]
        ),
        *(
            ("GET", f"/v2/a/tags/list?{query}", BadRequest)
            for query in ["n=%D9%A3", "last=a&last=b", "last=%00", "last=%C3%A9"]
        ),
        *(
            ("GET", f"/v2/a/tags/list?{query}", BadRequest)
            for query in ["x=%", "x=%4", "%zz=1", "x=%ff", "x=\xff", "last=" + "x" * 257]
        ),
        *(
            ("GET", f"/v2/a/referrers/{DIGEST}?{query}", BadRequest)
            for query in ["last=x", f"last={DIGEST}", f"last=sha256-{HEX}0"]
        ),
        *(
            ("GET", f"/v2/a/referrers/{DIGEST}?artifactType={text}", BadRequest)
            for text in ["a%0Ab", "x" * 256, "a&artifactType=b"]
        ),
        *(
            ("GET", f"/v2/_edgeproxy/can-i?{query}", BadRequest)
            for query in ["", "repository=a", "action=pull", "repository=a&action=x"]
        ),
        ("GET", "/v2/_edgeproxy/can-i?repository=A&action=pull", NameInvalid),
        ("GET", f"{BLOB}?x=%zz", BadRequest),
    ],
)
def test_a_request_line_one_step_away_is_refused(method: str, line: str, error: type[RegistryError]) -> None:
    with pytest.raises(RegistryError) as refused:
        read(method, line)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        ("/v2/", "GET, HEAD"),
        (BLOB, "GET, HEAD, DELETE"),
        (MANIFEST, "GET, HEAD, PUT, DELETE"),
        (UPLOADS, "POST"),
        (UPLOADS[:-1], "POST"),
        (UPLOADS + "s", "GET, PATCH, PUT, DELETE"),
        ("/v2/a/tags/list", "GET"),
        (f"/v2/a/referrers/{DIGEST}", "GET"),
        ("/v2/_catalog", "GET"),
        ("/v2/_edgeproxy/whoami", "GET"),
        ("/v2/_edgeproxy/can-i", "GET"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "X\r\nY"])
def test_a_method_that_an_endpoint_does_not_have_is_405_with_those_it_has(line: str, allow: str, method: str) -> None:
    if method in allow.split(", "):
        outcome = attempt(method, line.encode(), b"")
        # A refusal here is about the parameters, which are missing.
        assert not isinstance(outcome, RegistryError) or outcome.status == 400
    else:
        with pytest.raises(Unsupported) as unsupported:
            read(method, line)
        assert unsupported.value.status == 405
        assert unsupported.value.headers == {"Allow": allow}


def test_up_to_a_hundred_tags_go_with_one_push() -> None:
    hundred = "&".join(f"tag=v{number}" for number in range(100))
    operation = read("PUT", f"{MANIFEST}?{hundred}&tag=v0")
    assert isinstance(operation, ops.PutManifest)
    assert [tag.name for tag in operation.tags] == [f"v{number}" for number in range(100)]
    with pytest.raises(TooManyTags) as refused:
        read("PUT", f"{MANIFEST}?{hundred}&tag=one-more")
    assert (refused.value.status, refused.value.code) == (414, "MANIFEST_INVALID")


def test_a_query_has_at_most_16_kib() -> None:
    assert read("GET", f"{BLOB}?{'x' * 16384}") == ops.GetBlob(APP, DIGEST, head=False)
    with pytest.raises(UriTooLong) as refused:
        read("GET", f"{BLOB}?{'x' * 16385}")
    assert refused.value.status == 414


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/v2/Bad/tags/list", "'Bad'"),
        ("/v2/a/blobs/sha256:x", "'sha256:x'"),
        ("/v2/a/tags/list?n=-1", "'-1'"),
        ("/v2/a/tags/list?last=%0d%0a", r"'\r\n'"),
        ("/v2/a/tags/list?x=%zz", "'%zz'"),
        ("/v2/_edgeproxy/can-i?repository=a", "'action'"),
        ("/v2/a/nothing\x1b[31m", r"'/v2/a/nothing\x1b[31m'"),
    ],
)
def test_a_refusal_names_the_part_that_is_wrong_without_control_characters(line: str, part: str) -> None:
    with pytest.raises(RegistryError, match=re.escape(part)) as refused:
        read("GET", line)
    assert refused.value.message.isprintable()


def test_a_refused_algorithm_is_answered_with_those_that_are_registered() -> None:
    with pytest.raises(DigestInvalid, match="sha256, sha512"):
        read("POST", UPLOADS + "?digest-algorithm=blake3")


@given(printable, printable)
def test_a_target_is_ascii_without_room_for_another_header(last: str, artifact_type: str) -> None:
    text = target(ops.ListTags(APP, 1, last)) + target(ops.ListReferrers(APP, DIGEST, artifact_type, ""))
    assert re.fullmatch(r"[A-Za-z0-9/?&=%:._~-]*", text) is not None
    assert last in unquote(text)
