"""README.md is executed: its commands against a running `edgeproxy dev`, its documents by the code that reads them.

The words after the ticks of a fence say what happens to it. `sh` is run and must succeed, `sh refused` is run and must fail; a `text` fence right
after either is what it prints. `sh setup` is what the tests' own set-up stands in for. `sh cloud` needs an account: its settings are loaded and
its commands looked up. `sh policy` runs beside the policy that README shows. `sh cost` runs in a copy of the tree, and prints and draws what README
shows. What docker does is run where docker is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from edgeproxy import config
from edgeproxy.access.decisions import Grant
from edgeproxy.access.explain import caller_of
from edgeproxy.access.policy import Policy, load_policy
from edgeproxy.addresses import S3StoreLocation
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action
from tests.clients.test_docker import dockerd
from tests.clients.test_refusal_messages import SAID
from tests.conformance.test_conformance import DEV_CHECKS, STABLE_CHECKS
from tests.docs.pages import README, ROOT, Fence, Page
from tests.docs.trying import Dev, dev, stripped, write_alpine
from tests.programs import EDGEPROXY, clean_environment, program, run
from tests.running import temporary_folder

PAGE: Final = Page.read(README)
R2_TOKEN: Final = "the value of an API token"
CLUSTER_KEYS: Final = json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "x": "AA", "y": "AA"}]}).encode()

CALLERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "github-actions": ("github", {"repository_id": "81234567", "ref": "refs/heads/main"}),
    "gitlab-ci": ("gitlab", {"project_id": "4711", "ref_protected": "true"}),
    "kubernetes": ("cluster", {"sub": "system:serviceaccount:production:deployer"}),
}
"""Who calls from where, in the claims of its tokens."""


def fences(language: str, *uses: str) -> list[Fence]:
    """Give README's fences of a language and of these uses, in order; never none."""
    found = [fence for fence in PAGE.fences if fence.language == language and fence.use in (uses or ("",))]
    assert found, f"README has no fence `{language} {' '.join(uses)}`"
    return found


def text_after(fence: Fence) -> str | None:
    """Give what README says that a fence prints: the `text` that comes next after it, None if another fence does."""
    following = next((other for other in PAGE.fences if other.line > fence.line), None)
    return following.text if following is not None and following.language == "text" else None


async def push_what_is_refused(registry: Dev) -> str:
    """Do by HTTP what README does with docker where it is refused; give the message."""
    shell = ("edgeproxy", "dev-token", "--claim", "repository=acme/app", "--data", str(registry.folder / ".edgeproxy"))
    token = (await run(EDGEPROXY, *shell[1:], environment=registry.environment)).strip()
    basic = {"Authorization": "Basic " + base64.b64encode(f"oidc:{token}".encode()).decode()}
    url = f"http://localhost:{registry.port}"
    scope = {"service": "registry", "scope": "repository:private/other:pull,push"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/token", params=scope, headers=basic) as answer:
            assert answer.status == 200, await answer.text()
            bearer = {"Authorization": f"Bearer {(await answer.json())['token']}"}
        async with session.post(f"{url}/v2/private/other/blobs/uploads/", headers=bearer) as answer:
            assert answer.status == 403
            message: str = (await answer.json())["errors"][0]["message"]
    return message


def check_audit(registry: Dev) -> None:
    """Compare the line that README shows with the newest one of the audit, but for what differs from run to run."""
    (shown,) = (json.loads(fence.text) for fence in fences("json"))
    line = registry.last_audit_line()
    assert shown.keys() == line.keys()
    assert shown["client"].keys() == line["client"].keys()
    for name in shown.keys() - {"time", "request_id", "policy", "client"}:
        assert shown[name] == line[name], name


@pytest.mark.timeout(300)
async def test_the_first_two_chapters_are_what_docker_does() -> None:
    busybox = Path(program("busybox"))
    async with temporary_folder() as folder, dockerd(folder) as docker, dev(docker.environment) as registry:
        await docker("import", str(write_alpine(folder / "alpine.tar", busybox)), "alpine")
        for fence in fences("sh", "", "refused"):
            await registry.try_out(fence, text_after(fence))
            if "audit.jsonl" in fence.text:
                check_audit(registry)


@pytest.mark.timeout(120)
async def test_what_needs_no_docker_runs_without_it() -> None:
    async with dev() as registry:
        plain = [fence for fence in fences("sh", "", "refused") if "docker" not in fence.text]
        assert len(plain) >= 3
        await registry.try_out(plain[0], text_after(plain[0]))
        message = await push_what_is_refused(registry)
        texts = [text_after(fence) for fence in fences("sh", "refused") if "docker" in fence.text]
        assert [stripped(str(text), registry.port) for text in texts] == [
            f"denied: {stripped(message, registry.port)}\n"
        ]
        for fence in plain[1:]:
            await registry.try_out(fence, text_after(fence))
        check_audit(registry)


async def test_the_set_up_is_one_command_that_starts_the_registry() -> None:
    (fence,) = fences("sh", "setup")
    plan = await run(program("make"), "--dry-run", "--directory", str(ROOT), "run", environment=clean_environment(ROOT))

    assert fence.text == "make run\n"
    assert re.search(r"bin/edgeproxy dev$", plan, re.MULTILINE), plan


def edgeproxy_commands() -> Iterator[list[str]]:
    """Give every call of the command line that README shows, as words."""
    for fence in PAGE.fences:
        if fence.language == "sh":
            for line in fence.text.splitlines():
                lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                for is_pipe, words in groupby(lexer, lambda word: word == "|"):
                    command = list(words)
                    if not is_pipe and command[:1] == ["edgeproxy"]:
                        yield command[1:]


async def test_every_command_and_option_exists(tmp_path: Path) -> None:
    calls = list(edgeproxy_commands())
    assert len(calls) >= 8
    for words in calls:
        groups = ("policy", "keys", "audit")
        path = words[: 2 if words[0] in groups else 1]
        told = await run(EDGEPROXY, *path, "--help", environment=clean_environment(tmp_path))
        for word in words[len(path) :]:
            if word.startswith("--"):
                assert word in told, f"edgeproxy {' '.join(path)} has no {word}"


async def test_the_commands_for_a_bucket_make_settings_that_load(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(readme_policy_text())
    stores = []
    environment = clean_environment(tmp_path, {"R2_TOKEN": R2_TOKEN, "R2_TOKEN_ID": "the-id-of-an-api-token"})
    environment["PATH"] = os.pathsep.join((str(Path(EDGEPROXY).parent), environment["PATH"]))
    environment["EDGEPROXY_SIGNING_KEYS"] = environment["EDGEPROXY_POLICY"] = "unset"
    for fence in fences("sh", "cloud"):
        exports = [line for line in fence.text.splitlines() if line.startswith(("export ", "edgeproxy keys "))]
        script = "\n".join(["set -e", f"cd {shlex.quote(str(tmp_path))}", *exports, "env"])
        printed = await run("/bin/sh", "-c", script, environment=environment)
        environment = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        stores.append(config.load(environment, None).store)
    secret = hashlib.sha256(R2_TOKEN.encode()).hexdigest()

    assert environment["AWS_SECRET_ACCESS_KEY"] == secret
    assert environment["AWS_ACCESS_KEY_ID"] == "the-id-of-an-api-token"
    assert len(list((tmp_path / "keys").glob("*.pem"))) == 1
    assert stores == [
        S3StoreLocation("my-registry", "", f"https://{'0123456789abcdef' * 2}.r2.cloudflarestorage.com", "auto"),
        S3StoreLocation("my-registry", "", None, "eu-central-1"),
    ]
    assert all("edgeproxy check" in fence.text for fence in fences("sh", "cloud"))


async def test_what_it_would_cost_is_what_the_command_prints_and_draws(tmp_path: Path) -> None:
    (fence,) = fences("sh", "cost")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    (tmp_path / "docs").mkdir()
    environment = clean_environment(tmp_path)
    environment["PATH"] = os.pathsep.join((str(Path(EDGEPROXY).parent), environment["PATH"]))

    printed = await run(
        "/bin/sh", "-c", f"set -e\ncd {shlex.quote(str(tmp_path))}\n{fence.text}", environment=environment
    )

    assert printed == text_after(fence)
    (chart,) = re.findall(r"^!\[[^\]]+\]\((docs/[a-z]+\.svg)\)$", README.read_text(), re.MULTILINE)
    assert f"--svg {chart}\n" in fence.text
    assert (tmp_path / chart).read_bytes() == (ROOT / chart).read_bytes()


async def test_the_command_that_prices_a_log_of_ones_own_sets_up_and_estimates() -> None:
    (fence,) = [fence for fence in fences("sh", "own") if fence.text.startswith("make ")]
    words = fence.text.split()
    plan = await run(
        program("make"), "--dry-run", "--directory", str(ROOT), *words[1:], environment=clean_environment(ROOT)
    )

    assert re.search(
        rf"bin/python -m benchmarks\.egress estimate {words[-1].removeprefix('LOG=')} *$", plan, re.MULTILINE
    ), plan


def test_every_setting_that_is_named_exists() -> None:
    known = {name for name, _, _ in config.describe()}
    named = set(re.findall(r"EDGEPROXY_[A-Z_]+", README.read_text()))

    assert named
    assert named <= known


def readme_policy_text() -> str:
    """Give the one policy that README shows."""
    (fence,) = fences("yaml")
    return fence.text


def readme_policy() -> Policy:
    """Load it as `serve` would for a registry that the world can reach."""
    return load_policy(readme_policy_text().encode(), source="README.md", loopback=False, now=0, files=_cluster_keys)


def _cluster_keys(name: str) -> bytes:
    assert name == "cluster-jwks.json"
    return CLUSTER_KEYS


async def test_the_policy_passes_the_commands_that_are_shown_with_it(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(readme_policy_text())
    (tmp_path / "cluster-jwks.json").write_bytes(CLUSTER_KEYS)
    environment = clean_environment(tmp_path)
    environment["PATH"] = os.pathsep.join((str(Path(EDGEPROXY).parent), environment["PATH"]))
    for fence in fences("sh", "policy"):
        script = f"set -e\ncd {shlex.quote(str(tmp_path))}\n{fence.text}"
        await run("/bin/sh", "-c", script, environment=environment)


@pytest.mark.parametrize("place", CALLERS)
def test_each_caller_may_do_what_its_snippet_does_and_a_stranger_may_not(place: str) -> None:
    policy = readme_policy()
    issuer, claims = CALLERS[place]
    (fence,) = fences("yaml", place)
    verbs = {"push": Action.PUSH, "pull": Action.PULL}
    done = re.findall(r"(?:docker|crane) (push|pull) registry\.example\.com/([a-z/]+)", fence.text)
    assert done
    for verb, name in done:
        access = Access(Repository.parse(name), verbs[verb])
        stranger = {claim: f"{value}x" for claim, value in claims.items()}
        assert isinstance(policy.decide(caller_of(issuer, claims), access, 0), Grant)
        assert not isinstance(policy.decide(caller_of(issuer, stranger), access, 0), Grant)


def _nodes(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield str(key), child
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)


@pytest.mark.parametrize("place", CALLERS)
def test_each_snippet_is_yaml_and_asks_for_the_audience_that_the_policy_wants(place: str) -> None:
    issuer, _ = CALLERS[place]
    (wanted,) = readme_policy().issuers[issuer].audiences
    (fence,) = fences("yaml", place)
    nodes = list(_nodes(yaml.safe_load(fence.text)))
    asked = {str(value) for name, value in nodes if name in ("aud", "audience")}
    asked |= {found for _, value in nodes for found in re.findall(r"&audience=([^\"\s]+)", str(value))}

    assert asked == {wanted}
    assert f"-u oidc --password-stdin {wanted}" in fence.text


def test_a_github_job_may_ask_for_a_token() -> None:
    (fence,) = fences("yaml", "github-actions")
    (job,) = yaml.safe_load(fence.text)["jobs"].values()

    assert job["permissions"]["id-token"] == "write"


def test_every_fence_is_of_a_kind_that_a_test_looks_at() -> None:
    kinds = {(fence.language, fence.use) for fence in PAGE.fences}

    assert kinds == {
        *(("sh", use) for use in ("", "setup", "refused", "cloud", "policy", "own", "cost")),
        *(("yaml", use) for use in ("", *CALLERS)),
        ("text", ""),
        ("json", ""),
        ("", ""),  # the picture
    }
    for fence in PAGE.fences:
        if fence.language == "text":
            before = [other for other in PAGE.fences if other.line < fence.line][-1]
            assert (before.language, before.use) in (("sh", ""), ("sh", "refused"), ("sh", "cost")), fence


def test_the_versions_in_the_table_are_those_that_the_pipeline_pins() -> None:
    pinned = (ROOT / ".ci" / "versions").read_text()
    clients, _ = PAGE.tables("Tested with")
    tested = dict(clients)
    for name in ("crane", "oras", "helm", "regctl"):
        assert re.search(rf"^{name} \S+@v{re.escape(tested[name])}$", pinned, re.MULTILINE), name
    assert {"docker engine", "containerd (`ctr`)", "podman, buildah, skopeo"} <= tested.keys()
    (tool,) = re.findall(r"distribution-spec/conformance` at `([0-9a-f]{12})`", PAGE.prose)
    assert re.search(rf"^conformance \S+-{tool}$", pinned, re.MULTILINE)


def test_the_conformance_that_is_told_is_no_less_than_what_the_tests_demand() -> None:
    _, runs = PAGE.tables("Tested with")
    floors = [STABLE_CHECKS, DEV_CHECKS, DEV_CHECKS]
    for (_, passed, failed, left), floor in zip(runs, floors, strict=True):
        passes, _, checks = passed.partition(" of ")
        assert floor <= int(passes) <= floor + 10
        assert (int(passes) + int(left), failed) == (int(checks), "0")


def test_what_refused_clients_read_is_what_they_are_sent() -> None:
    (table,) = PAGE.tables("Sign in")
    sent = ("expired token", "wrong audience", "unknown issuer", "denied, push", "immutable tag")
    for (_, message), situation in zip(table, sent, strict=True):
        assert message.startswith(SAID[situation].removesuffix(" (request "))


def test_it_can_be_read_in_five_minutes() -> None:
    assert len(README.read_text().splitlines()) < 370
    assert PAGE.headings == (
        "edgeproxy",
        "Quick start",
        "Sign in",
        "Point it at a bucket",
        "In a container",
        "With Terraform",
        "From GitHub Actions, GitLab CI and Kubernetes",
        "What happens to a request",
        "What it would cost",
        "How fast",
        "Tested with",
        "Limits",
        "Development",
        "Licence",
    )
