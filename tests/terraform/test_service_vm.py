"""The module `service-vm`, on a machine that boots: cloud-init, systemd, podman, Caddy and the firewall are real, and so are registry and store.

One machine serves all tests here, as its first boot takes the better part of a minute; each leaves it serving.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.images import Image
from tests.issuer import LocalIssuer
from tests.programs import clean_environment, program, run, superuser
from tests.pushing import Client, client
from tests.running import ACCESS_KEY, SECRET_KEY, Bucket, registry, temporary_folder, versitygw
from tests.terraform import vm_images
from tests.terraform.conftest import Terraform
from tests.terraform.machine import Link, Machine, booted, link, reachable

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

DOMAIN = "registry.test"
CONTENT = b"what is pulled all the time"
WAITING = (
    "/etc/edgeproxy/vm.env",
    "/etc/systemd/system/edgeproxy.service",
    "/etc/systemd/system/edgeproxy-credentials.path",
    "/etc/systemd/system/edgeproxy-credentials.service",
)
"""What differs on a machine that waits for its credentials."""
KEYS = f"AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={SECRET_KEY}\n"
MAIN = """\
variable "vm" { type = any }
variable "cluster" { type = any }
module "cluster" {
  source   = "../modules/kubernetes-oidc"
  audience = var.cluster.audience
  url      = var.cluster.url
  keys     = { inline = var.cluster.keys }
  trusts   = [{ name = "builds-push", namespace = "build", service_accounts = ["builder"], push = ["team/**"] }]
}
module "vm" {
  source      = "../modules/service-vm"
  domain      = var.vm.domain
  image       = var.vm.image
  store       = var.vm.store
  credentials = var.vm.credentials
  settings    = var.vm.settings
  certificate = try(var.vm.certificate, "internal")
  ssh_from    = try(var.vm.ssh_from, [])
  acme_email  = try(var.vm.acme_email, null)
  policy = yamlencode(merge(module.cluster.policy, {
    version = 1
    public  = [{ repositories = ["public/**"], actions = ["pull"] }]
  }))
}
output "user_data" { value = module.vm.user_data }
output "files" { value = module.vm.files }
"""


async def rendered(terraform: Terraform, name: str, **variables: Any) -> dict[str, Any]:
    """Apply the module, and give its outputs."""
    folder = terraform.tree / name
    folder.mkdir(exist_ok=True)
    (folder / "main.tf").write_text(MAIN)
    (folder / "terraform.tfvars.json").write_text(json.dumps(variables))
    await terraform.ready(folder)
    await terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color")
    outputs = json.loads(await terraform(folder, "output", "-json"))
    return {output: outputs[output]["value"] for output in ("user_data", "files")}


@dataclass(frozen=True, slots=True)
class Images:
    """Where the machine pulls from, and what lies there."""

    repository: str
    """As the machine writes it: host and name."""
    known: dict[str, Image]
    client: Client

    async def tag(self, name: str, tag: str = "stable") -> str:
        """Let a tag name one of the images; give how the machine writes its digest."""
        (await self.client.push_manifest("edgeproxy", tag, self.known[name].manifest)).expect(201)
        return f"{self.repository}@{self.known[name].digest}"


@dataclass(frozen=True, slots=True)
class World:
    """The machine, what it pulls from, and whom it trusts."""

    machine: Machine
    images: Images
    cluster: LocalIssuer
    folder: Path
    authority: Path
    variables: dict[str, dict[str, Any]]
    """Of Terraform, as the machine was made with."""

    @property
    def there(self) -> str:
        return self.machine.network.there

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Speak to the registry under its name, trusting the machine's authority alone."""
        trust = ssl.create_default_context(cafile=str(self.authority))
        connector = aiohttp.TCPConnector(resolver=Names({DOMAIN: self.there}), ssl=trust)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
            yield session

    async def oras(self, *words: str, status: int | None = 0) -> str:
        """Run oras in the folder, against the registry's name."""
        remote = ("--ca-file", str(self.authority), "--resolve", f"{DOMAIN}:443:{self.there}")
        command = f'cd "{self.folder}" && exec "{program("oras")}" "$@"'
        environment = clean_environment(self.folder)
        return await run("/bin/sh", "-c", command, "oras", *words, *remote, environment=environment, status=status)

    def token(self, namespace: str = "build", account: str = "builder") -> str:
        """Make a token as the cluster gives to a pod."""
        now = time.time()
        subject = f"system:serviceaccount:{namespace}:{account}"
        return self.cluster.mint({"sub": subject, "aud": [DOMAIN], "iat": now - 5, "exp": now + 3600})

    async def pushed(self, tag: str, content: bytes) -> str:
        """Sign in and push a file as `team/app`; give what oras told."""
        (self.folder / "content.bin").write_bytes(content)
        await self.oras("login", DOMAIN, "-u", "oidc", "-p", self.token())
        told = await self.oras("push", f"{DOMAIN}/team/app:{tag}", "content.bin:application/octet-stream")
        (self.folder / "content.bin").unlink()
        return told

    async def pulled(self, tag: str) -> bytes:
        """Sign in and pull it; give its content."""
        await self.oras("login", DOMAIN, "-u", "oidc", "-p", self.token())
        await self.oras("pull", f"{DOMAIN}/team/app:{tag}")
        return (self.folder / "content.bin").read_bytes()

    async def container(self) -> int:
        """Find the process in the container, as the machine counts."""
        return int(await self.machine.run("podman", "inspect", "--format", "{{.State.Pid}}", "edgeproxy"))

    async def in_use(self) -> str:
        """Give the digest that the machine says it uses."""
        told = await self.machine.run("edgeproxy-vm", "status")
        return told.splitlines()[0].removeprefix("in use: ")

    async def serving(self) -> None:
        """Wait until it is ready."""
        if not await self.machine.becomes("curl --fail --silent http://127.0.0.1:5000/readyz"):
            pytest.fail(f"it does not get ready:\n{(await self.machine.journal('edgeproxy.service'))[-5000:]}")


class Names(AbstractResolver):
    """Names that are known here alone."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=self._names[host], port=port, family=2, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def image_source(
    stack: AsyncExitStack, folder: Path, store: Bucket, network: Link, store_port: int
) -> AsyncIterator[Images]:
    """Run the registry that edgeproxy's own image comes from: edgeproxy."""
    source = registry(
        replace(store, location=store.location.replace("s3://registry", "s3://registry/images")),
        folder, store_public_endpoint=f"http://{network.here}:{store_port}",
    )  # fmt: skip
    await source.start()
    stack.push_async_callback(source.stop)
    port = await stack.enter_async_context(reachable(network, source.port))
    base = await asyncio.to_thread(vm_images.layers, folder)
    known = {"first": vm_images.image(base, "1"), "second": vm_images.image(base, "2")}
    for name, script in vm_images.BROKEN.items():
        layer = vm_images.script_layer(folder / name, script)
        known[name] = vm_images.image((*base, layer), name, "/entry")
    async with client(source.url) as pusher:
        for name, each in known.items():
            await vm_images.push(pusher, "edgeproxy", each, name)
        await pusher.push_manifest("edgeproxy", "stable", known["first"].manifest)
        yield Images(f"{network.here}:{port}/edgeproxy", known, pusher)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(terraform: Terraform) -> AsyncIterator[World]:
    async with a_world(terraform) as made:
        yield made


@asynccontextmanager
async def a_world(terraform: Terraform) -> AsyncIterator[World]:
    """Boot a machine, with all that it needs around it."""
    superuser("a machine that boots")
    for name in ("systemd-nspawn", "debootstrap", "ip", "oras"):
        program(name)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(temporary_folder())
        network = await stack.enter_async_context(link())
        store = await stack.enter_async_context(versitygw(folder))
        store_port = await stack.enter_async_context(reachable(network, store.port))
        images = await stack.enter_async_context(image_source(stack, folder, store, network, store_port))
        cluster = LocalIssuer("https://kubernetes.default.svc")
        variables: dict[str, dict[str, Any]] = {
            "vm": {
                "domain": DOMAIN,
                "image": f"{images.repository}:stable",
                "store": f"s3://registry/vm?endpoint=http://{network.here}:{store_port}&region=us-east-1",
                "credentials": {"from": "command", "command": "cat /root/bucket-keys"},
                "settings": {"EDGEPROXY_REDIRECT_SECONDS": "120"},
            },
            "cluster": {"audience": DOMAIN, "url": cluster.url, "keys": json.dumps(cluster.document("/keys"))},
        }
        user_data = (await rendered(terraform, "vm-command", **variables))["user_data"]
        host = images.repository.partition("/")[0]
        before = {
            "root/bucket-keys": KEYS,
            # So that the journal is in the log that a test which fails is shown with.
            "etc/systemd/journald.conf.d/console.conf": "[Journal]\nForwardToConsole=yes\n",
            "etc/containers/registries.conf.d/here.conf": f'[[registry]]\nlocation = "{host}"\ninsecure = true\n',
        }
        machine = await stack.enter_async_context(booted(folder, network, user_data, before))
        authority = machine.root / "var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
        made = World(machine, images, cluster, folder, authority, variables)
        await made.serving()
        await made.pushed("v1", CONTENT)
        yield made


async def test_the_first_boot_sets_everything_up(world: World) -> None:
    status = json.loads(await world.machine.run("cloud-init", "status", "--format", "json"))
    failed = await world.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    units = ("edgeproxy.service", "caddy.service", "edgeproxy-firewall.service", "edgeproxy-upgrade.timer")
    enabled = await world.machine.run("systemctl", "is-enabled", *units)

    assert (status["status"], status["errors"]) == ("done", [])
    assert failed == ""
    assert enabled.split() == ["enabled"] * len(units)


async def test_what_was_rendered_is_sound_to_the_programs_that_read_it(world: World, terraform: Terraform) -> None:
    """The machine's own files, and those of another choice of everything."""
    machine = world.machine
    other = {
        **world.variables["vm"],
        "certificate": "public",
        "acme_email": "ops@example.com",
        "ssh_from": ["192.0.2.0/24", "2001:db8::/64"],
        "credentials": {"from": "file"},
    }
    rest = await rendered(terraform, "vm-file", vm=other, cluster=world.variables["cluster"])
    for path, content in rest["files"].items():
        place = machine.root / "root/other" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    (machine.root / "root/other/user-data").write_text(rest["user_data"])

    async def sound(root: str, user_data: str) -> None:
        units = f"{root}/etc/systemd/system/edgeproxy*"
        assert await machine.sh(f"systemd-analyze verify --man=no {units} 2>&1") == ""
        assert "Valid configuration" in await machine.sh(
            f"caddy validate --adapter caddyfile --config {root}/etc/edgeproxy/Caddyfile"
        )
        assert await machine.sh(f"nft --check --file {root}/etc/edgeproxy/firewall.nft") == ""
        assert "Valid cloud-config" in await machine.sh(f"cloud-init schema --config-file {user_data}")
        assert await machine.sh(f"sh -n {root}/usr/local/sbin/edgeproxy-vm") == ""

    await sound("", "/var/lib/cloud/seed/nocloud/user-data")
    await sound("/root/other", "/root/other/user-data")

    (machine.root / "root/broken").write_text("#cloud-config\nwrite_files: 1\n")
    (machine.root / "root/broken.service").write_text("[Service]\nExecStart=/does/not/exist\n")
    assert "is not of type 'array'" in await machine.run(
        "cloud-init", "schema", "--config-file", "/root/broken", status=1
    )
    assert "not executable" in await machine.run(
        "systemd-analyze", "verify", "--man=no", "/root/broken.service", status=1
    )


async def test_the_container_has_no_root_no_capability_and_nothing_to_write_to(world: World) -> None:
    process = await world.container()
    status = await world.machine.run("cat", f"/proc/{process}/status")
    facts = {name: value.split() for name, _, value in (line.partition(":") for line in status.splitlines())}
    enter = ("nsenter", "--target", str(process), "--mount", "--root", "--wd")
    denied = await world.machine.run(*enter, "touch", "/opt/written", status=1)
    await world.machine.run(*enter, "sh", "-c", "touch /tmp/written && rm /tmp/written")

    assert facts["Uid"] == ["65532"] * 4
    assert [facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [["0" * 16]] * 5
    assert facts["NoNewPrivs"] == ["1"]
    assert "Read-only file system" in denied


async def test_a_signing_key_was_made_that_only_the_container_reads(world: World) -> None:
    facts = await world.machine.sh("cd /var/lib/edgeproxy && stat --format '%a %u' keys keys/*.pem")

    assert facts.splitlines() == ["700 65532", "600 65532"]


async def test_secrets_are_in_memory_alone(world: World) -> None:
    facts = await world.machine.sh("stat --format '%a %u' /run/edgeproxy /run/edgeproxy/credentials.env")
    kept = await world.machine.sh(f"grep -rl '{SECRET_KEY}' /etc /var/lib/edgeproxy /var/lib/cloud /var/log || true")
    written = await world.machine.run("journalctl", "--no-pager")

    assert facts.splitlines() == ["700 0", "600 0"]
    assert kept == ""
    assert SECRET_KEY not in written


async def test_only_the_web_ports_are_open(world: World) -> None:
    listener = "systemd-run --quiet --unit=listener python3 -m http.server --bind 0.0.0.0 8000"
    await world.machine.sh(
        f"{listener}; until curl --silent --output /dev/null http://127.0.0.1:8000/; do sleep 0.1; done"
    )

    async def opens(port: int) -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(world.there, port), 3)
        except TimeoutError:
            return False
        writer.close()
        return True

    assert [port for port in (22, 80, 443, 5000, 8000, 9000) if await opens(port)] == [80, 443]

    await world.machine.sh("nft insert rule inet edgeproxy input tcp dport 8000 accept")
    assert await opens(8000), "the listener was there, and the firewall kept it closed"
    await world.machine.sh("systemctl stop listener; systemctl reload edgeproxy-firewall")
    assert not await opens(8000)


async def test_a_pod_of_the_cluster_pushes_and_pulls_over_https(world: World) -> None:
    content = random.Random(1).randbytes(30 * 1024 * 1024)

    await world.pushed("large", content)

    assert await world.pulled("large") == content


async def test_another_pod_pushes_nothing(world: World) -> None:
    async def push(account: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {world.token(account=account)}"}
        async with (
            world.session() as session,
            session.post(f"https://{DOMAIN}/v2/team/app/blobs/uploads/", headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    status, told = await push("other")

    assert status == 403
    assert "'builds-push' comes nearest" in told
    assert (await push("builder"))[0] == 202


async def test_the_audit_names_the_client_and_not_caddy(world: World) -> None:
    marked = "audit-names-the-client"
    async with world.session() as session:
        forged = {"User-Agent": marked, "X-Forwarded-For": "192.0.2.1"}
        async with session.get(f"https://{DOMAIN}/v2/public/app/tags/list", headers=forged) as answer:
            await answer.read()

    assert await world.machine.becomes(f"journalctl --unit=edgeproxy.service --output=cat --all | grep {marked}")
    lines = [line for line in (await world.machine.journal("edgeproxy.service")).splitlines() if marked in line]
    assert [json.loads(line)["client"]["address"] for line in lines] == [world.machine.network.here]


async def test_no_log_holds_a_presigned_url_or_a_token(world: World) -> None:
    assert await world.pulled("v1") == CONTENT

    written = await world.machine.run("journalctl", "--no-pager", "--all")

    assert "team/app" in written
    assert "X-Amz-Signature" not in written
    assert not re.search(r"eyJ[A-Za-z0-9_-]{10}", written)


async def test_plain_http_is_sent_to_https(world: World) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{world.there}/v2/", headers={"Host": DOMAIN}, allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (308, f"https://{DOMAIN}/v2/")


async def more(statuses: list[int], number: int = 20) -> None:
    """Wait for so many more answers."""
    wanted = len(statuses) + number
    async with asyncio.timeout(60):
        while len(statuses) < wanted:  # noqa: ASYNC110  answers come from clients, who know nothing of us
            await asyncio.sleep(0.05)


@asynccontextmanager
async def pulling(world: World) -> AsyncIterator[list[int]]:
    """Pull all the time, by three clients; give the statuses of every answer so far."""
    statuses: list[int] = []
    stop = asyncio.Event()

    async def pull(session: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            for path in ("/v2/", "/v2/team/app/manifests/v1"):
                headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.oci.image.manifest.v1+json"}
                async with session.get(f"https://{DOMAIN}{path}", headers=headers) as answer:
                    await answer.read()
                    statuses.append(answer.status)
            await asyncio.sleep(0.02)

    token = world.token()
    async with world.session() as session, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(pull(session))
        try:
            yield statuses
        finally:
            stop.set()


async def test_a_killed_container_comes_back_and_no_pull_fails(world: World) -> None:
    former = await world.container()
    async with pulling(world) as statuses:
        await more(statuses)
        await world.machine.run("kill", "-KILL", str(former))
        assert await world.machine.becomes("test \"$(podman inspect --format '{{.State.Pid}}' edgeproxy)\" -gt 1")
        await world.serving()
        await more(statuses)

    assert await world.container() != former
    # What was under way in the moment of the kill may fail; nothing that came later did.
    assert [status for status in statuses if status != 200].count(502) <= 3
    assert set(statuses) <= {200, 502}


async def test_an_upgrade_goes_to_the_new_digest_and_no_pull_fails(world: World) -> None:
    former = await world.in_use()
    newer = await world.images.tag("second" if former.endswith(world.images.known["first"].digest) else "first")

    await world.machine.run("podman", "pull", "--quiet", f"{world.images.repository}:unfit")

    async with pulling(world) as statuses:
        await more(statuses)
        await world.machine.run("systemctl", "start", "edgeproxy-upgrade.service")
        await more(statuses)

    assert await world.in_use() == newer != former
    running = await world.machine.run("podman", "inspect", "--format", "{{.ImageName}}", "edgeproxy")
    assert running.strip() == newer
    assert set(statuses) == {200}
    kept = await world.machine.run("podman", "image", "ls", "--digests", "--format", "{{.Digest}}")
    assert set(kept.split()) == {former.partition("@")[2], newer.partition("@")[2]}, (
        "what neither runs nor ran before is removed"
    )


async def test_an_upgrade_with_nothing_new_changes_nothing(world: World) -> None:
    former = await world.container()

    told = await world.machine.run("edgeproxy-vm", "upgrade")

    assert "is in use already" in told
    assert await world.container() == former


async def test_a_digest_whose_check_fails_is_never_started(world: World) -> None:
    former, process = await world.in_use(), await world.container()
    unfit = await world.images.tag("unfit")

    told = await world.machine.run("edgeproxy-vm", "upgrade", status=1)

    assert "this one is unfit" in told
    assert f"the check of {unfit} failed" in told
    assert (await world.in_use(), await world.container()) == (former, process)


@pytest.mark.parametrize("broken", ["crashing", "deaf"])
async def test_a_digest_that_does_not_get_ready_is_rolled_back_and_not_tried_again(world: World, broken: str) -> None:
    former = await world.in_use()
    refused = await world.images.tag(broken)

    told = await world.machine.run("edgeproxy-vm", "upgrade", status=1)
    again = await world.machine.run("edgeproxy-vm", "upgrade")

    assert f"{refused} did not get ready; going back to {former}" in told
    assert f"{refused} was refused before; {former} stays" in again
    assert await world.in_use() == former
    assert f"refused: {refused}" in await world.machine.run("edgeproxy-vm", "status")
    await world.serving()


async def test_new_keys_of_the_bucket_are_taken_at_the_next_start_and_kept_when_the_command_fails(world: World) -> None:
    read = "cat /run/edgeproxy/credentials.env"
    await world.machine.sh("echo AWS_SESSION_TOKEN= >> /root/bucket-keys && systemctl restart edgeproxy")
    renewed = await world.machine.sh(read)
    await world.machine.sh("cp /root/bucket-keys /root/kept")
    try:
        await world.machine.sh("rm /root/bucket-keys && systemctl restart edgeproxy")
        kept = await world.machine.sh(read)
        await world.machine.sh(f"echo not a key > /root/bucket-keys && systemctl restart edgeproxy && {read}")
        told = await world.machine.journal("edgeproxy.service")
    finally:
        # What comes after must not fail of it, or hide what failed here.
        await world.machine.sh("mv /root/kept /root/bucket-keys")

    assert renewed == f"{KEYS}AWS_SESSION_TOKEN=\n"
    assert kept == renewed
    assert "credentials.command failed; the keys that it printed before are used" in told
    assert "not a key" not in told
    await world.serving()


async def test_with_credentials_by_file_it_waits_for_them_and_takes_new_ones(
    world: World, terraform: Terraform
) -> None:
    machine = world.machine
    choice = {**world.variables["vm"], "credentials": {"from": "file"}}
    rest = await rendered(terraform, "vm-waits", vm=choice, cluster=world.variables["cluster"])
    former = {path: (machine.root / path[1:]).read_text() for path in WAITING if (machine.root / path[1:]).exists()}
    for path in WAITING:
        (machine.root / path[1:]).write_text(rest["files"][path])
    (machine.root / "root/written").write_text(KEYS)
    given = "/etc/edgeproxy/credentials.env"

    await machine.sh(
        "systemctl daemon-reload; systemctl stop edgeproxy; systemctl start edgeproxy-credentials.path edgeproxy"
    )
    waiting = await machine.run("systemctl", "is-active", "edgeproxy", status=None)
    await machine.sh(f"install -m 0600 /root/written {given}")
    await world.serving()
    first = await world.container()
    await machine.sh(f"echo AWS_REGION=us-east-1 >> {given}")
    renewed = await machine.becomes(
        f"test $(podman inspect --format '{{{{.State.Pid}}}}' edgeproxy) -gt 1 -a $(podman inspect --format '{{{{.State.Pid}}}}' edgeproxy) -ne {first}"
    )
    await world.serving()
    await machine.run("chmod", "0644", given)
    refused = await machine.run("edgeproxy-vm", "prepare", status=1)

    assert waiting == "inactive\n"
    assert renewed
    assert f"readable to others: chmod 0600 {given}" in refused

    await machine.sh(f"systemctl stop edgeproxy-credentials.path; rm {given}")
    for path in WAITING:
        (machine.root / path[1:]).unlink()
    for path, content in former.items():
        (machine.root / path[1:]).write_text(content)
    await machine.sh("systemctl daemon-reload; systemctl restart edgeproxy")
    await world.serving()


async def test_after_a_power_cut_it_serves_with_the_same_key(world: World) -> None:
    keys = await world.machine.sh("sha256sum /var/lib/edgeproxy/keys/*.pem")

    await world.machine.off()
    await world.machine.boot()
    await world.serving()

    assert await world.machine.sh("sha256sum /var/lib/edgeproxy/keys/*.pem") == keys
    assert await world.pulled("v1") == CONTENT
