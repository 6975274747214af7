"""What every presigned URL promises: a plain HTTP client needs nothing else, and what was altered or is over opens nothing."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest
from aiohttp import ClientSession
from yarl import URL

from edgeproxy.storage import MIN_PART_BYTES
from tests.contract.backend import Backend

DATA = bytes(range(256)) * 40
REFUSED = {400, 403}


async def fetch(
    client: ClientSession, url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    async with client.request(method, URL(url, encoded=True), headers=headers, allow_redirects=False) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()


@pytest.fixture
async def url(backend: Backend) -> str:
    await backend.store.put("blobs/sha256/abc", DATA)
    await backend.store.put("blobs/sha256/abd", b"another object")
    return (await backend.presigner.presign("blobs/sha256/abc", 60)).url


async def test_a_presigned_url_gives_the_bytes_to_a_plain_client(url: str, client: ClientSession) -> None:
    status, headers, body = await fetch(client, url)
    assert (status, body) == (200, DATA)
    assert headers["content-length"] == str(len(DATA))
    assert headers["content-type"] == "application/octet-stream"
    assert headers["accept-ranges"] == "bytes"
    assert headers["etag"].startswith('"')
    assert headers["last-modified"].endswith("GMT")


async def test_it_can_be_used_again_until_it_ends(url: str, client: ClientSession) -> None:
    answers = await asyncio.gather(*[fetch(client, url) for _ in range(5)])
    assert [(status, body) for status, _, body in answers] == [(200, DATA)] * 5


async def test_it_says_how_long_it_lives_and_hides_itself(backend: Backend) -> None:
    presigned = await backend.presigner.presign("blobs/sha256/abc", 60)
    assert presigned.seconds == 60
    assert urlsplit(presigned.url).query not in repr(presigned)


async def test_an_object_of_many_parts_arrives_whole(backend: Backend, client: ClientSession) -> None:
    data = DATA * 1000
    upload = await backend.store.begin("blobs/big", MIN_PART_BYTES)
    for number, at in enumerate(range(0, len(data), MIN_PART_BYTES), 1):
        await upload.write(number, data[at : at + MIN_PART_BYTES])
    await upload.complete()
    presigned = await backend.presigner.presign("blobs/big", 60)
    status, _, body = await fetch(client, presigned.url)
    assert status == 200
    assert body == data


async def test_an_empty_object_is_served(backend: Backend, client: ClientSession) -> None:
    await backend.store.put("empty", b"")
    status, headers, body = await fetch(client, (await backend.presigner.presign("empty", 60)).url)
    assert (status, headers["content-length"], body) == (200, "0", b"")


async def test_metadata_do_not_show_in_the_bytes(backend: Backend, client: ClientSession) -> None:
    await backend.store.put("described", b"bytes", content_type="text/plain", metadata={"x": "y"})
    status, headers, body = await fetch(client, (await backend.presigner.presign("described", 60)).url)
    assert (status, body) == (200, b"bytes")
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
        ("bytes=-999999", 0, len(DATA)),
        ("bytes=10000-999999", 10_000, len(DATA)),
    ],
)
async def test_a_range_is_served_as_partial_content(
    url: str, client: ClientSession, wanted: str, start: int, end: int
) -> None:
    status, headers, body = await fetch(client, url, headers={"Range": wanted})
    assert (status, body) == (206, DATA[start:end])
    assert headers["content-range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert headers["content-length"] == str(end - start)


async def test_a_range_past_the_end_cannot_be_satisfied(url: str, client: ClientSession) -> None:
    status, _, _ = await fetch(client, url, headers={"Range": f"bytes={len(DATA)}-"})
    assert status == 416


async def test_an_absent_object_is_not_found(backend: Backend, client: ClientSession) -> None:
    presigned = await backend.presigner.presign("blobs/sha256/nothing", 60)
    assert (await fetch(client, presigned.url))[0] == 404


@pytest.mark.parametrize(
    "key", ["a+b", "a=b&c", "a!b~c", "(a)*'", "a%2Fb", "A_b-c.d", "a,b;c", "a@b:c$", "a?b#c", "a b"]
)
async def test_odd_characters_survive_the_url(backend: Backend, client: ClientSession, key: str) -> None:
    await backend.store.put(f"x/{key}", key.encode())
    presigned = await backend.presigner.presign(f"x/{key}", 60)
    assert (await fetch(client, presigned.url))[::2] == (200, key.encode())


# Refusals; the accepting twin of each is `url` itself.


def altered_values(url: str) -> list[str]:
    """Change the last character of each value in the query, one at a time."""
    base, _, query = url.partition("?")
    fields = query.split("&")
    changed = []
    for index, field in enumerate(fields):
        last = "1" if field[-1] != "1" else "2"
        changed.append(base + "?" + "&".join([*fields[:index], field[:-1] + last, *fields[index + 1 :]]))
    return changed


async def test_altering_any_value_of_the_query_closes_it(url: str, client: ClientSession) -> None:
    variants = altered_values(url)
    assert len(variants) == len(parse_qsl(urlsplit(url).query)) >= 2
    for variant in variants:
        status, _, body = await fetch(client, variant)
        assert status in REFUSED, variant
        assert DATA not in body


async def test_leaving_out_any_part_of_the_query_closes_it(url: str, client: ClientSession) -> None:
    base, _, query = url.partition("?")
    fields = query.split("&")
    variants = [base, base + "?", url[:-1], url[: -len(fields[-1]) // 2]]
    variants += [base + "?" + "&".join([*fields[:index], *fields[index + 1 :]]) for index in range(len(fields))]
    for variant in variants:
        status, _, body = await fetch(client, variant)
        assert status in REFUSED, variant
        assert DATA not in body


@pytest.mark.parametrize("extra", ["response-content-type=text%2Fhtml", "versionId=null", "x=y", "partNumber=1"])
async def test_adding_to_the_query_closes_it(url: str, client: ClientSession, extra: str) -> None:
    base, _, query = url.partition("?")
    for variant in (f"{url}&{extra}", f"{base}?{extra}&{query}"):
        assert (await fetch(client, variant))[0] in REFUSED


async def test_a_longer_life_than_the_signed_one_closes_it(url: str, client: ClientSession) -> None:
    base, _, query = url.partition("?")
    fields = query.split("&")
    for index, field in enumerate(fields):
        name, _, life = field.partition("=")
        if name in {"expires", "X-Amz-Expires"}:
            longer = f"{name}={int(life) + 100}"
            variant = base + "?" + "&".join([*fields[:index], longer, *fields[index + 1 :]])
            assert (await fetch(client, variant))[0] in REFUSED
            return
    pytest.fail(f"no life found in the query: {[field.partition('=')[0] for field in fields]}")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "DELETE"])
async def test_another_method_is_refused_and_does_nothing(
    backend: Backend, url: str, client: ClientSession, method: str
) -> None:
    status, _, _ = await fetch(client, url, method=method)
    assert status in {*REFUSED, 405}
    assert (await backend.store.read("blobs/sha256/abc", len(DATA)))[1] == DATA


async def test_the_signature_of_one_object_does_not_open_another(url: str, client: ClientSession) -> None:
    status, _, body = await fetch(client, url.replace("/abc?", "/abd?"))
    assert status in REFUSED
    assert b"another object" not in body


@pytest.mark.parametrize(
    "path",
    ["blobs/sha256/%61bd", "blobs/sha256/abc/../abd", "blobs/sha256/abc%2F..%2Fabd", "blobs//sha256/abd", "", "/"],
)
async def test_no_other_spelling_of_the_path_is_taken(url: str, client: ClientSession, path: str) -> None:
    status, _, body = await fetch(client, url.replace("blobs/sha256/abc", path))
    assert status in {*REFUSED, 404}
    assert b"another object" not in body
    assert DATA not in body


async def test_an_absent_object_without_a_signature_is_refused_not_unknown(url: str, client: ClientSession) -> None:
    assert (await fetch(client, url.partition("?")[0] + "nothing"))[0] in REFUSED


async def test_an_expired_url_is_refused(backend: Backend, url: str, client: ClientSession) -> None:
    if backend.past_presigner is not None:
        expired = (await backend.past_presigner.presign("blobs/sha256/abc", 3000)).url
        alive = (await backend.past_presigner.presign("blobs/sha256/abc", 4000)).url
        assert (await fetch(client, alive))[0] == 200
    else:
        expired = (await backend.presigner.presign("blobs/sha256/abc", 1)).url
        # Nothing but time ends it; how long that takes is not asserted.
        while (await fetch(client, expired))[0] == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    status, _, body = await fetch(client, expired)
    assert status in REFUSED
    assert DATA not in body


async def test_a_credential_beside_the_signature_is_refused(backend: Backend, url: str, client: ClientSession) -> None:
    if not backend.one_mechanism:
        pytest.skip(f"{backend.name} tolerates an Authorization header beside a signature")
    for credential in ("Bearer abc", "Basic YTpi"):
        status, _, body = await fetch(client, url, headers={"Authorization": credential})
        assert status in REFUSED
        assert DATA not in body
