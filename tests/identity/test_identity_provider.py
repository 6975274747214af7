"""A real OpenID provider, `oidc-provider` from npm, as a process: discovery, rotation while serving, outage, groups as lists.

It needs node and, once, `npm ci --prefix tests/identity`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest

from tests import programs
from tests.images import make_image
from tests.issuer import Key, sign
from tests.programs import bound_to_us, clean_environment, program, run
from tests.running import Registry, end, serving
from tests.signing_in import can, exchanged, refusal, write_login

HERE = Path(__file__).parent
POLICY = """\
version: 1
issuers:
  staff: {{url: "{issuer}", audiences: [registry.example]}}
rules:
  - name: on-call
    issuer: staff
    match: {{groups: [oncall, admins]}}
    allow: [{{repositories: ["team/**"], actions: [pull, push]}}]
  - name: readers
    issuer: staff
    match: {{groups: readers}}
    allow: [{{repositories: ["team/**"], actions: [pull]}}]
"""


class Provider:
    """The provider. Every start makes other keys; `url` stays the same."""

    def __init__(self, folder: Path, algorithm: str) -> None:
        self._node = program("node")
        self._folder = folder
        self._algorithm = algorithm
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.kids: Sequence[str] = ()

    async def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        with (self._folder / "provider.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *bound_to_us(self._node, str(HERE / "provider.mjs"), port, self._algorithm),
                env=clean_environment(self._folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        told = json.loads(await self._process.stdout.readline() or b"{}")
        assert told, (self._folder / "provider.log").read_text()
        self.url, self.kids = told["issuer"], told["kids"]

    async def stop(self) -> None:
        assert self._process is not None
        await end(self._process)

    async def token(self, client: str) -> str:
        """Get an access token, a JWT for the registry, as a job does."""
        form = {"grant_type": "client_credentials", "resource": "urn:example:registry"}
        headers = {"Authorization": aiohttp.encode_basic_auth(client, "secret-of-the-tests")}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{self.url}/token", data=form) as answer,
        ):
            assert answer.status == 200, await answer.text()
            token: str = (await answer.json())["access_token"]
            return token


@pytest.fixture(params=["ES256"])
async def provider(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Provider]:
    async with running(tmp_path, request.param) as started:
        yield started


@asynccontextmanager
async def running(folder: Path, algorithm: str) -> AsyncIterator[Provider]:
    if not (HERE / "node_modules" / "oidc-provider").is_dir():
        text = "oidc-provider is not installed: npm ci --prefix tests/identity"
        if programs.REQUIRED:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    started = Provider(folder, algorithm)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


@pytest.fixture
async def registry(provider: Provider) -> AsyncIterator[Registry]:
    """Give a registry that believes the provider, whose keys it has to find."""
    async with serving("filesystem", policy=POLICY.format(issuer=provider.url)) as started:
        yield started


def forged(provider: Provider, kid: str) -> str:
    """Make a token that names a key, but is not signed with it."""
    now = time.time()
    claims = {"iss": provider.url, "aud": "registry.example", "sub": "deployer", "iat": now, "exp": now + 60}
    return sign(Key.make(kid), {"alg": "ES256", "typ": "JWT", "kid": kid}, {**claims, "groups": ["oncall"]})


@pytest.mark.parametrize("provider", ["ES256", "RS256", "PS256", "EdDSA"], indirect=True)
async def test_claims_of_discovered_keys_decide_and_any_element_of_a_list_matches(
    provider: Provider, registry: Registry
) -> None:
    deployer, reader = await provider.token("deployer"), await provider.token("reader")
    assert jwt.decode(deployer, options={"verify_signature": False})["groups"] == ["developers", "oncall"]

    assert await can(registry.url, deployer, "push", "team/app")
    assert await can(registry.url, reader, "pull", "team/app")
    assert not await can(registry.url, reader, "push", "team/app")
    assert not await can(registry.url, deployer, "pull", "other/app")


async def test_new_keys_are_found_at_once_and_old_ones_are_not_believed_any_more(
    provider: Provider, registry: Registry
) -> None:
    before, kept = await provider.token("deployer"), await provider.token("reader")
    assert await can(registry.url, before, "push", "team/app")
    old = provider.kids
    await provider.stop()
    await provider.start()
    assert not set(old) & set(provider.kids)

    assert await can(registry.url, await provider.token("deployer"), "push", "team/app")
    assert "signed with a key that its issuer does not publish" in await refusal(registry.url, kept)


async def test_known_keys_serve_through_an_outage_and_unknown_ones_are_refused(
    provider: Provider, registry: Registry
) -> None:
    first, second = await provider.token("deployer"), await provider.token("reader")
    assert await can(registry.url, first, "push", "team/app")
    await provider.stop()

    assert await can(registry.url, second, "pull", "team/app")
    message = await refusal(registry.url, forged(provider, "unknown"))
    assert "signed with a key that its issuer does not publish" in message
    assert provider.url not in message
    await provider.start()


async def test_a_registry_that_starts_in_an_outage_believes_nobody_until_it_has_read_the_keys(
    provider: Provider,
) -> None:
    token = await provider.token("deployer")
    await provider.stop()
    async with serving("filesystem", policy=POLICY.format(issuer=provider.url)) as registry:
        assert "the keys of the token's issuer cannot be read at the moment" in await refusal(registry.url, token)
        await provider.start()
        token = await provider.token("deployer")
        # It asks again after a pause, and tells nobody.
        while (await exchanged(registry.url, token))[0] == 401:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        assert await can(registry.url, token, "push", "team/app")


async def test_a_forged_token_that_names_a_true_key_is_refused(provider: Provider, registry: Registry) -> None:
    assert await can(registry.url, await provider.token("deployer"), "push", "team/app")
    message = await refusal(registry.url, forged(provider, provider.kids[0]))
    assert "signed" in message or "signature" in message


@pytest.mark.timeout(180)
async def test_a_stock_client_pushes_and_pulls_with_nothing_but_a_token(
    provider: Provider, registry: Registry, tmp_path: Path
) -> None:
    crane = program("crane")
    image = make_image(Path(program("busybox")), seed=4711)
    name = f"{registry.host}/team/app:v1"
    environment = clean_environment(tmp_path)
    layout = image.write_layout(tmp_path / "layout", name)

    refused = await run(crane, "push", str(layout), name, environment=environment, status=1)
    assert "403" in refused or "401" in refused
    write_login(tmp_path, registry.host, await provider.token("deployer"))
    await run(crane, "push", str(layout), name, environment=environment)
    write_login(tmp_path, registry.host, await provider.token("reader"))
    await run(crane, "pull", "--format", "oci", name, str(tmp_path / "out"), environment=environment)
    denied = await run(crane, "push", str(layout), f"{registry.host}/team/other:v1", environment=environment, status=1)

    assert "403" in denied or "DENIED" in denied
    for blob in image.blobs:
        assert (tmp_path / "out" / "blobs" / blob.digest.replace(":", "/")).read_bytes() == blob.content
