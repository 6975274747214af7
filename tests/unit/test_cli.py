"""The command line: exit codes, what goes where, and that nothing expected ends in a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

import edgeproxy
from edgeproxy.cli import app
from edgeproxy.config import describe
from edgeproxy.oci.names import Digest, Repository, Tag
from edgeproxy.registry.tags import Tagged
from edgeproxy.storage import keys
from edgeproxy.storage.filesystem import FilesystemStore
from tests.running import free_ports

IMAGE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = orjson.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": None, "layers": []}).replace(
    b'"config":null,', b""
)
DIGEST = Digest.of(MANIFEST)
APP = Repository("acme/app")
ROOT = Path(edgeproxy.__file__).parents[1]
COMMAND = [sys.executable, "-m", "edgeproxy"]
POLICY = 'version: 1\npublic:\n  - {repositories: ["public/**"], actions: [pull]}\n'


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPROXY_")}
    return {**others, "PYTHONPATH": str(ROOT), **environment}


def patiently(url: str, process: subprocess.Popen[bytes]) -> int:
    """Ask until a program that is starting answers, and give its status; its start can only be polled."""
    problem: OSError | None = None
    for _ in range(1000):
        assert process.poll() is None, "it ended while starting"
        try:
            with urllib.request.urlopen(url) as answer:
                return int(answer.status)
        except OSError as error:
            problem = error
            time.sleep(0.02)
    raise AssertionError("it does not answer") from problem


def run(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, text: str = "") -> Result:
    """Run the command line in this process; an exception that it did not expect fails the test."""
    cleaned = dict.fromkeys(name for name in os.environ if name.startswith("EDGEPROXY_"))
    with contextlib.chdir(cwd):
        result = CliRunner().invoke(
            app, arguments, env={**cleaned, **(environment or {})}, input=text, prog_name="edgeproxy"
        )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def fill(folder: Path) -> None:
    store = await FilesystemStore.open(folder)
    await store.put(keys.LAYOUT, b'{"version":1}')
    await store.put(keys.catalog(APP), b"")
    await store.put(keys.manifest(APP, DIGEST), MANIFEST, content_type=IMAGE)
    await store.put(keys.tagged(APP, DIGEST, Tag("v1")), b"")
    await store.put(keys.tag(APP, Tag("v1")), Tagged(DIGEST, IMAGE, len(MANIFEST), 0.0, "me").dump())
    await store.close()


@pytest.fixture
def store(tmp_path: Path) -> dict[str, str]:
    """A bucket with one image, as the environment names it."""
    asyncio.run(fill(tmp_path / "store"))
    return {"EDGEPROXY_STORE": f"file://{tmp_path}/store"}


class TestUsage:
    def test_help_lists_every_command(self, tmp_path: Path) -> None:
        shown = run("--help", cwd=tmp_path)
        assert shown.exit_code == 0
        for command in ("dev", "serve", "check", "inspect", "fsck", "policy", "keys"):
            assert f"\n  {command} " in shown.stdout

    def test_help_loads_nothing_heavy(self, tmp_path: Path) -> None:
        heavy = [
            "pydantic",
            "starlette",
            "hypercorn",
            "aiohttp",
            "botocore",
            "cryptography",
            "rich",
            "orjson",
            "asyncio",
        ]
        script = (
            "import sys\nfrom edgeproxy.cli import app\n"
            "try:\n    app(['--help'], prog_name='edgeproxy')\nexcept SystemExit:\n    pass\n"
            f"print([name for name in {heavy} if name in sys.modules])"
        )
        shown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        assert shown.stdout.splitlines()[-1] == "[]"

    def test_the_service_keeps_nothing_that_parses_and_says_the_same(self, tmp_path: Path) -> None:
        script = (
            "import sys\nfrom edgeproxy.command import main\n"
            "try:\n    main()\nfinally:\n    print('typer' in sys.modules)"
        )
        environment = clean({"EDGEPROXY_STORE": "nowhere"})
        lean, parsed = (
            subprocess.run(
                [sys.executable, "-c", script, *arguments],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            for arguments in (["serve"], ["serve", "--server", "hypercorn"])
        )
        assert (lean.stdout, parsed.stdout) == ("False\n", "True\n")
        assert lean.stderr == parsed.stderr
        assert "EDGEPROXY_STORE" in lean.stderr
        assert lean.returncode == parsed.returncode == 2

    def test_serve_help_lists_every_setting_with_its_default(self, tmp_path: Path) -> None:
        shown = run("serve", "--help", cwd=tmp_path)
        assert shown.exit_code == 0
        words = " ".join(shown.stdout.split())
        for name, _, default in describe():
            assert name in words
            assert ("[required]" if default == "required" else f"[default: {default}]") in words

    def test_the_version_is_told(self, tmp_path: Path) -> None:
        assert run("--version", cwd=tmp_path).stdout == f"edgeproxy {edgeproxy.__version__}\n"

    @pytest.mark.parametrize(
        "arguments", [["polcy"], ["serve", "--nope"], ["inspect"], ["keys", "retire"], ["dev", "--port", "0"]]
    )
    def test_wrong_usage_is_2(self, tmp_path: Path, arguments: list[str]) -> None:
        shown = run(*arguments, cwd=tmp_path)
        assert shown.exit_code == 2
        assert shown.stdout == ""
        assert "Usage:" in shown.stderr


class TestSettings:
    @pytest.mark.parametrize("command", [["serve"], ["check"], ["fsck"], ["inspect", "a"]])
    def test_a_misspelt_setting_is_2_and_told_with_the_nearest(self, tmp_path: Path, command: list[str]) -> None:
        shown = run(*command, cwd=tmp_path, environment={"EDGEPROXY_STOER": "file:///x"})
        assert shown.exit_code == 2
        assert "EDGEPROXY_STOER is not a setting; did you mean EDGEPROXY_STORE?" in shown.stderr
        assert "EDGEPROXY_STORE is required" in shown.stderr
        assert shown.stdout == ""

    def test_a_bad_file_is_told_with_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "other.toml").write_text('store = "file:///x"\nworkers = 0\n')
        shown = run("serve", "--config", "other.toml", cwd=tmp_path)
        assert shown.exit_code == 2
        assert "other.toml:2: workers must be a whole number from 1 to 256" in shown.stderr

    def test_the_file_in_the_folder_is_read_unless_another_is_named(
        self, tmp_path: Path, store: dict[str, str]
    ) -> None:
        (tmp_path / "edgeproxy.toml").write_text(f'store = "{store["EDGEPROXY_STORE"]}"\n')
        (tmp_path / "other.toml").write_text("workers = 1\n")
        assert run("fsck", cwd=tmp_path).exit_code == 0
        assert run("fsck", "--config", "other.toml", cwd=tmp_path).exit_code == 2

    def test_a_server_that_is_none_is_refused(self, tmp_path: Path, store: dict[str, str]) -> None:
        shown = run("serve", "--server", "apache", cwd=tmp_path, environment=store)
        assert shown.exit_code == 2
        assert "EDGEPROXY_SERVER must be hypercorn or granian" in shown.stderr

    def test_serve_without_a_policy_document_refuses_to_start(self, tmp_path: Path, store: dict[str, str]) -> None:
        assert run("keys", "new", "keys", cwd=tmp_path).exit_code == 0
        environment = {**store, "EDGEPROXY_POLICY": "none.yaml", "EDGEPROXY_SIGNING_KEYS": "keys"}
        finished = subprocess.run(
            [*COMMAND, "serve"], cwd=tmp_path, env=clean(environment), capture_output=True, text=True, check=False
        )
        assert finished.returncode == 2
        assert "EDGEPROXY_POLICY" in finished.stderr
        assert "none.yaml" in finished.stderr
        assert "Traceback" not in finished.stderr


class TestDev:
    def test_it_greets_and_serves_until_it_is_interrupted(self, tmp_path: Path) -> None:
        port = free_ports(1)[0]
        command = [*COMMAND, "dev", "--data", "data", "--port", str(port)]
        with subprocess.Popen(
            command, cwd=tmp_path, env=clean({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as dev:
            assert dev.stdout is not None
            assert dev.stderr is not None
            try:
                assert f"http://localhost:{port}" in dev.stdout.readline().decode()
                assert f"http://127.0.0.1:{port + 1}" in dev.stdout.readline().decode()
                assert patiently(f"http://localhost:{port}/healthz", dev) == 200
            finally:
                dev.send_signal(signal.SIGINT)
                errors = dev.stderr.read().decode()
            assert dev.wait() == 0
        assert "Traceback" not in errors
        made = {path.name for path in (tmp_path / "data").iterdir()}
        assert made >= {".gitignore", "audit.jsonl", "policy.yaml", "signing-keys", "store"}

    @pytest.mark.parametrize(
        "setting",
        [
            {"EDGEPROXY_BIND": "0.0.0.0:5000", "EDGEPROXY_PUBLIC_URL": "http://localhost:5000"},
            {"EDGEPROXY_PUBLIC_URL": "https://r.example.org"},
        ],
    )
    def test_it_is_for_this_machine_alone(self, tmp_path: Path, setting: dict[str, str]) -> None:
        shown = run(
            "dev", cwd=tmp_path, environment={**setting, "EDGEPROXY_STORE_PUBLIC_ENDPOINT": "http://127.0.0.1:5001"}
        )
        assert shown.exit_code == 2
        assert "dev is for this machine alone" in shown.stderr
        assert not (tmp_path / ".edgeproxy").exists()

    def test_a_broken_policy_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        (tmp_path / ".edgeproxy").mkdir()
        (tmp_path / ".edgeproxy" / "policy.yaml").write_text("version: 1\nrulez: []\n")
        shown = run("dev", cwd=tmp_path)
        assert shown.exit_code == 2
        assert "policy.yaml:2" in shown.stderr


class TestInspect:
    def test_a_repository_is_printed_whole(self, tmp_path: Path, store: dict[str, str]) -> None:
        shown = run("inspect", "acme/app", cwd=tmp_path, environment=store)
        assert shown.exit_code == 0
        assert "acme/app: 1 manifests, 1 tags, 0 blobs of 0 bytes" in shown.stdout
        assert str(DIGEST) in shown.stdout

    def test_a_repository_as_json(self, tmp_path: Path, store: dict[str, str]) -> None:
        shown = json.loads(run("inspect", "acme/app", "--json", cwd=tmp_path, environment=store).stdout)
        assert shown["repository"] == "acme/app"
        assert [(entry["digest"], entry["tags"]) for entry in shown["manifests"]] == [(str(DIGEST), ["v1"])]
        assert shown["tags"] == [{"tag": "v1", "digest": str(DIGEST), "created": 0.0, "by": "me"}]

    def test_a_tag_as_text_and_as_json(self, tmp_path: Path, store: dict[str, str]) -> None:
        shown = run("inspect", "acme/app:v1", cwd=tmp_path, environment=store)
        assert f"acme/app:v1 points at {DIGEST}" in shown.stdout
        plain = json.loads(run("inspect", "acme/app:v1", "--json", cwd=tmp_path, environment=store).stdout)
        assert (plain["tag"], plain["digest"], plain["media_type"]) == ("v1", str(DIGEST), IMAGE)

    @pytest.mark.parametrize(("name", "code"), [("acme/none", 1), ("acme/app:v2", 1), ("Acme", 2), ("acme/app:-", 2)])
    def test_what_is_not_there_is_1_and_what_is_no_name_is_2(
        self, tmp_path: Path, store: dict[str, str], name: str, code: int
    ) -> None:
        shown = run("inspect", name, cwd=tmp_path, environment=store)
        assert shown.exit_code == code
        assert shown.stderr.startswith("edgeproxy: ")
        assert shown.stdout == ""


class TestFsck:
    def test_a_whole_bucket_is_0(self, tmp_path: Path, store: dict[str, str]) -> None:
        shown = run("fsck", "--json", "--bytes", cwd=tmp_path, environment=store)
        assert (shown.exit_code, json.loads(shown.stdout)) == (0, {"damage": [], "garbage": []})
        assert run("fsck", cwd=tmp_path, environment=store).stdout == "0 damaged, 0 garbage\n"

    def test_garbage_is_0(self, tmp_path: Path, store: dict[str, str]) -> None:
        orphan = tmp_path / "store" / "objects" / keys.blob(Digest.of(b"x"))
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(b"x")
        shown = run("fsck", "--json", cwd=tmp_path, environment=store)
        assert shown.exit_code == 0
        assert [item["kind"] for item in json.loads(shown.stdout)["garbage"]] == ["blob-unlinked"]

    def test_damage_is_1(self, tmp_path: Path, store: dict[str, str]) -> None:
        (tmp_path / "store" / "objects" / keys.manifest(APP, DIGEST)).unlink()
        shown = run("fsck", "--json", cwd=tmp_path, environment=store)
        assert shown.exit_code == 1
        (damage,) = json.loads(shown.stdout)["damage"]
        assert (damage["kind"], damage["key"]) == ("tag-without-manifest", keys.tag(APP, Tag("v1")))
        assert str(DIGEST) in damage["message"]
        assert "tag-without-manifest" in run("fsck", cwd=tmp_path, environment=store).stdout

    def test_the_data_folder_of_dev_is_named_by_itself(self, tmp_path: Path, store: dict[str, str]) -> None:
        assert run("fsck", "--data", ".", cwd=tmp_path).exit_code == 0
        assert run("fsck", "--data", "elsewhere", cwd=tmp_path).exit_code == 2

    def test_a_bucket_of_a_newer_release_is_left_alone(self, tmp_path: Path, store: dict[str, str]) -> None:
        (tmp_path / "store" / "objects" / keys.LAYOUT).write_bytes(b'{"version":2}')
        shown = run("fsck", cwd=tmp_path, environment=store)
        assert shown.exit_code == 1
        assert "layout 2" in shown.stderr


class TestCheck:
    def test_a_store_that_serves_is_all_right(self, tmp_path: Path, store: dict[str, str]) -> None:
        run("keys", "new", "keys", cwd=tmp_path)
        (tmp_path / "policy.yaml").write_text(POLICY)
        port, store_port = free_ports(2)
        environment = {**store, "EDGEPROXY_POLICY": "policy.yaml", "EDGEPROXY_SIGNING_KEYS": "keys"}
        environment |= {"EDGEPROXY_BIND": f"127.0.0.1:{port}", "EDGEPROXY_STORE_BIND": f"127.0.0.1:{store_port}"}
        shown = run("check", "--json", cwd=tmp_path, environment=environment)
        assert (shown.exit_code, shown.stderr) == (0, "")
        checks = json.loads(shown.stdout)["checks"]
        assert len(checks) == 16
        assert {check["problem"] for check in checks} == {""}

    def test_every_problem_is_one_line_and_the_exit_is_1(self, tmp_path: Path, store: dict[str, str]) -> None:
        (tmp_path / "policy.yaml").write_text("version: 1\nrulez: []\npublik: []\n")
        environment = {**store, "EDGEPROXY_POLICY": "policy.yaml", "EDGEPROXY_SIGNING_KEYS": "keys"}
        environment |= {"EDGEPROXY_STORE_PUBLIC_ENDPOINT": "http://localhost:1"}
        shown = run("check", cwd=tmp_path, environment=environment)
        assert shown.exit_code == 1
        lines = shown.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["signing keys", "policy", "presigned GET"]
        assert "EDGEPROXY_SIGNING_KEYS" in lines[0]
        assert "policy.yaml:2" in lines[1]
        assert "EDGEPROXY_STORE_PUBLIC_ENDPOINT" in lines[2]


class TestKeys:
    def test_keys_are_made_listed_and_retired(self, tmp_path: Path) -> None:
        first = run("keys", "new", "keys", cwd=tmp_path).stdout.strip()
        second = json.loads(
            run("keys", "new", "--json", cwd=tmp_path, environment={"EDGEPROXY_SIGNING_KEYS": "keys"}).stdout
        )
        listed = json.loads(run("keys", "list", "keys", "--json", cwd=tmp_path).stdout)
        assert {key["kid"] for key in listed} == {first, second["kid"]}
        assert [key["signs"] for key in listed].count(True) == 1
        assert run("keys", "retire", first, "keys", cwd=tmp_path).exit_code == 0
        assert first not in run("keys", "list", "keys", cwd=tmp_path).stdout

    def test_a_key_that_is_not_there_is_1_and_no_folder_is_2(self, tmp_path: Path) -> None:
        run("keys", "new", "keys", cwd=tmp_path)
        assert run("keys", "retire", "other", "keys", cwd=tmp_path).exit_code == 1
        shown = run("keys", "list", cwd=tmp_path)
        assert shown.exit_code == 2
        assert "EDGEPROXY_SIGNING_KEYS" in shown.stderr


class TestPolicy:
    DOCUMENT = """\
version: 1
issuers:
  ci: {url: "https://ci.example.com", audiences: [registry.example.com]}
rules:
  - name: app
    issuer: ci
    match: {project: "7"}
    allow:
      - {repositories: [acme/app], actions: [pull]}
tests:
  - {issuer: ci, claims: {project: "7"}, repository: acme/app, action: pull, expect: allow}
  - {issuer: ci, claims: {project: "8"}, repository: acme/app, action: pull, expect: deny}
"""

    @pytest.fixture(autouse=True)
    def document(self, tmp_path: Path) -> None:
        (tmp_path / "policy.yaml").write_text(self.DOCUMENT)
        (tmp_path / "broken.yaml").write_text("version: 1\nrulez: []\n")

    @pytest.mark.parametrize(("project", "code"), [("7", 0), ("8", 1)])
    def test_explain_tells_the_decision_by_its_exit(self, tmp_path: Path, project: str, code: int) -> None:
        claims = json.dumps({"iss": "https://ci.example.com", "sub": "x", "project": project})
        shown = run("policy", "explain", "policy.yaml", "--claims", claims, "acme/app", "pull", cwd=tmp_path)
        assert shown.exit_code == code
        told = run(
            "policy", "explain", "policy.yaml", "--claims", "-", "acme/app", "pull", "--json", cwd=tmp_path, text=claims
        )
        assert json.loads(told.stdout)["allowed"] is (code == 0)

    @pytest.mark.parametrize(("project", "code"), [("7", 0), ("8", 1)])
    def test_claims_without_an_issuer_are_tried_as_each(self, tmp_path: Path, project: str, code: int) -> None:
        another = "issuers:\n  another: {url: https://another.example.com, audiences: [registry.example.com]}\n"
        (tmp_path / "policy.yaml").write_text(self.DOCUMENT.replace("issuers:\n", another))
        shown = run(
            "policy",
            "explain",
            "policy.yaml",
            "--claims",
            json.dumps({"project": project}),
            "acme/app",
            "pull",
            cwd=tmp_path,
        )
        assert shown.exit_code == code
        assert "as if issuer ci had made them" in shown.stderr

    def test_explain_reads_a_token_and_does_not_show_it(self, tmp_path: Path) -> None:
        token = "e30.eyJpc3MiOiJodHRwczovL2NpLmV4YW1wbGUuY29tIiwicHJvamVjdCI6IjcifQ.c2lnbmF0dXJl"
        shown = run("policy", "explain", "policy.yaml", "--token", "-", "acme/app", "pull", cwd=tmp_path, text=token)
        assert shown.exit_code == 0
        assert "c2lnbmF0dXJl" not in shown.stdout

    @pytest.mark.parametrize(
        "arguments",
        [
            ["policy.yaml", "--claims", "[]", "acme/app", "pull"],
            ["policy.yaml", "--claims", "{", "acme/app", "pull"],
            ["policy.yaml", "--token", "abc", "acme/app", "pull"],
            ["policy.yaml", "--token", "a.b.c", "--claims", "{}", "acme/app", "pull"],
            ["policy.yaml", "--claims", '{"iss": "https://other.example.com"}', "acme/app", "pull"],
            ["policy.yaml", "--claims", "{}", "--issuer", "none", "acme/app", "pull"],
            ["policy.yaml", "acme/app", "destroy"],
            ["policy.yaml", "Acme", "pull"],
            ["broken.yaml", "acme/app", "pull"],
            ["missing.yaml", "acme/app", "pull"],
        ],
    )
    def test_explain_refuses_what_is_no_question(self, tmp_path: Path, arguments: list[str]) -> None:
        shown = run("policy", "explain", *arguments, cwd=tmp_path)
        assert shown.exit_code == 2
        assert shown.stderr.startswith("edgeproxy: ")

    def test_an_anonymous_caller_is_asked_for_without_claims(self, tmp_path: Path) -> None:
        shown = run("policy", "explain", "policy.yaml", "acme/app", "pull", cwd=tmp_path)
        assert shown.exit_code == 1
        assert "anonymous" in shown.stdout

    def test_expectations_pass_or_exit_1(self, tmp_path: Path) -> None:
        shown = run("policy", "test", "policy.yaml", cwd=tmp_path)
        assert (shown.exit_code, shown.stdout) == (0, "2 passed, 0 failed\n")
        (tmp_path / "policy.yaml").write_text(self.DOCUMENT.replace("expect: deny", "expect: allow"))
        shown = run("policy", "test", "policy.yaml", cwd=tmp_path)
        assert shown.exit_code == 1
        assert "policy.yaml:12: expected allow" in shown.stdout
        results = json.loads(run("policy", "test", "policy.yaml", "--json", cwd=tmp_path).stdout)
        assert [result["passed"] for result in results] == [True, False]

    def test_lint_finds_or_not(self, tmp_path: Path) -> None:
        (tmp_path / "good.yaml").write_text(POLICY)
        assert run("policy", "lint", "good.yaml", cwd=tmp_path).exit_code == 0
        (tmp_path / "empty.yaml").write_text("version: 1\n")
        shown = run("policy", "lint", "empty.yaml", "--json", cwd=tmp_path)
        assert shown.exit_code == 1
        assert [finding["code"] for finding in json.loads(shown.stdout)] == ["EP015"]
        assert run("policy", "lint", "broken.yaml", cwd=tmp_path).exit_code == 2

    def test_the_schema_is_json(self, tmp_path: Path) -> None:
        assert json.loads(run("policy", "schema", cwd=tmp_path).stdout)["title"] == "edgeproxy policy"


def test_a_pipe_that_is_closed_is_no_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    finished = subprocess.run(
        [*COMMAND, "policy", "schema"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert finished.stderr == b""
