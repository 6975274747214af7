"""The issuer of `edgeproxy dev`, and the tokens of `edgeproxy dev-token`."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from edgeproxy import config, dev, dev_issuer
from edgeproxy.access.policy import load_policy
from edgeproxy.access.signing import SigningKeys, new_key
from edgeproxy.cli import app
from edgeproxy.dev_issuer import DevIssuer, NoDevIssuer
from edgeproxy.settings import Settings
from tests.running import free_ports

LISTED = 'version: 1\nissuers:\n  dev: {{url: "{url}", audiences: ["localhost:5000", other]}}\n'
ISSUER = DevIssuer("http://127.0.0.1:5002", "localhost:5000")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose policy lists the issuer."""
    dev.prepare(tmp_path)
    (tmp_path / "policy.yaml").write_text(LISTED.format(url="http://127.0.0.1:5002"))
    return tmp_path


def run(data: Path, *arguments: str) -> Result:
    with contextlib.chdir(data):
        return CliRunner().invoke(app, ["dev-token", "--data", str(data), *arguments])


def claims(data: Path, token: str) -> dict[str, Any]:
    """Read a token as a verifier would: with the keys that the issuer publishes."""
    keys = jwt.PyJWKSet.from_dict(SigningKeys.load(data / "issuer-keys").jwks())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    read: dict[str, Any] = jwt.decode(token, key, ["ES256"], options={"verify_aud": False, "verify_exp": False})
    return read


def settings(data: Path, port: int = 5000, **environment: str) -> Settings:
    return config.load(environment, None, defaults=dev.defaults(data, port))


class TestToken:
    def test_it_alone_is_on_standard_output_and_the_registry_need_not_run(self, data: Path) -> None:
        before = int(time.time())
        result = run(data, "--claim", "repository=acme/app", "--claim", "groups=oncall")
        assert (result.exit_code, result.stderr) == (0, "")
        found = claims(data, result.stdout.removesuffix("\n"))
        assert found.pop("jti")
        assert before <= found.pop("iat") <= time.time()
        assert before + 3600 <= found.pop("exp") <= time.time() + 3600
        assert found == {
            "iss": "http://127.0.0.1:5002",
            "aud": "localhost:5000",
            "sub": "developer",
            "repository": "acme/app",
            "groups": "oncall",
        }

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("true", True),
            ("81234567", 81234567),
            ("1.5", 1.5),
            ('["oncall", "admins"]', ["oncall", "admins"]),
            ('{"a": 1}', {"a": 1}),
            ('"81234567"', "81234567"),
            ("oncall,admins", "oncall,admins"),
            ("refs/heads/main", "refs/heads/main"),
            ("007", "007"),
            ("null", "null"),
            ("a=b", "a=b"),
            ("", ""),
        ],
    )
    def test_a_value_is_json_where_it_can_be_and_text_else(self, data: Path, text: str, value: object) -> None:
        found = claims(data, run(data, "--claim", f"c={text}").stdout.strip())["c"]
        assert found == value
        assert type(found) is type(value)

    def test_options_and_claims_make_tokens_that_are_to_be_refused(self, data: Path) -> None:
        token = run(
            data, "--audience", "a", "--subject", "s", "--seconds", "-60", "--claim", "iss=https://other"
        ).stdout
        found = claims(data, token.strip())
        assert (found["aud"], found["sub"], found["iss"]) == ("a", "s", "https://other")
        assert found["exp"] == found["iat"] - 60

    @pytest.mark.parametrize("claim", ["novalue", "=value"])
    def test_what_is_no_claim_is_told(self, data: Path, claim: str) -> None:
        result = run(data, "--claim", claim)
        assert result.exit_code == 2
        assert "is not NAME=VALUE" in result.stderr
        assert result.stdout == ""

    def test_a_claim_that_is_given_twice_is_told_how_to_write_a_list(self, data: Path) -> None:
        result = run(data, "--claim", "groups=a", "--claim", "groups=b")
        assert result.exit_code == 2
        assert """--claim 'groups=["one", "two"]'""" in result.stderr

    def test_a_folder_without_keys_is_told_to_run_dev_first(self, tmp_path: Path) -> None:
        result = run(tmp_path)
        assert result.exit_code == 2
        assert "run that first" in result.stderr

    @pytest.mark.parametrize(
        ("policy", "said"),
        [
            ("version: 1\n", "lists no issuer `dev`"),
            (LISTED.format(url="https://dev.example.com"), "is at https://dev.example.com"),
            (LISTED.format(url="http://127.0.0.1:70000"), "policy.yaml"),
            ("version: 2\n", "policy.yaml:1"),
        ],
    )
    def test_a_policy_that_would_not_believe_the_token_is_told(self, data: Path, policy: str, said: str) -> None:
        (data / "policy.yaml").write_text(policy)
        result = run(data)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stdout == ""


class TestIssuer:
    def test_it_is_where_the_policy_says(self) -> None:
        policy = load_policy(LISTED.format(url="http://127.0.0.1:6002").encode(), source="p", loopback=True, now=0)
        assert dev_issuer.listed(policy) == DevIssuer("http://127.0.0.1:6002", "localhost:5000")

    def test_a_policy_without_it_has_none(self) -> None:
        with pytest.raises(NoDevIssuer, match="lists no issuer `dev`: add it"):
            dev_issuer.listed(load_policy(b"version: 1\n", source="p", loopback=True, now=0))

    def test_it_can_be_discovered(self, data: Path) -> None:
        site = dev_issuer.site(ISSUER, dev.issuer_keys(data))
        assert site.binds == ("127.0.0.1:5002",)
        client = TestClient(site.app)
        document = client.get("/.well-known/openid-configuration").json()
        assert document["issuer"] == "http://127.0.0.1:5002"
        assert document["jwks_uri"] == "http://127.0.0.1:5002/jwks.json"
        (key,) = client.get("/jwks.json").json()["keys"]
        assert "d" not in key

    def test_a_key_that_is_added_is_published_at_once_and_one_that_is_unusable_is_told(self, data: Path) -> None:
        client = TestClient(dev_issuer.site(ISSUER, dev.issuer_keys(data)).app)
        kid = new_key(data / "issuer-keys", time.time())
        assert kid in [key["kid"] for key in client.get("/jwks.json").json()["keys"]]
        (data / "issuer-keys" / f"{kid}.pem").write_text("nonsense")
        answer = client.get("/jwks.json")
        assert answer.status_code == 500
        assert "is not a private key" in answer.json()["error"]

    def test_its_key_is_for_its_owner_alone_and_stays(self, tmp_path: Path) -> None:
        dev.prepare(tmp_path)
        (file,) = (tmp_path / "issuer-keys").glob("*.pem")
        assert file.stat().st_mode & 0o777 == 0o600
        content = file.read_bytes()
        dev.prepare(tmp_path)
        assert [path.read_bytes() for path in (tmp_path / "issuer-keys").glob("*.pem")] == [content]


class TestSite:
    """Where `dev` runs the issuer: tests of ports take free ones."""

    def test_it_runs_two_ports_after_the_registry_while_the_policy_says_nothing(self, tmp_path: Path) -> None:
        port = free_ports(1)[0]
        dev.prepare(tmp_path, f"localhost:{port}", port + 2)
        site = dev.issuer_site(settings(tmp_path, port), tmp_path)
        assert site is not None
        assert site.binds == (f"127.0.0.1:{port + 2}",)

    def test_the_starter_policy_names_the_ports_of_the_first_run(self, tmp_path: Path) -> None:
        dev.prepare(tmp_path, "localhost:7000", 7002)
        text = (tmp_path / "policy.yaml").read_text()
        assert "http://127.0.0.1:7002" in text
        assert '["localhost:7000"]' in text
        assert "500" not in text

    def test_it_stays_where_the_policy_says_when_the_registry_moves(self, data: Path) -> None:
        (port,) = free_ports(1)
        (data / "policy.yaml").write_text(LISTED.format(url=f"http://127.0.0.1:{port}"))
        site = dev.issuer_site(settings(data, 7000), data)
        assert site is not None
        assert site.binds == (f"127.0.0.1:{port}",)

    def test_a_port_that_is_taken_is_told_if_the_policy_names_it_and_does_no_harm_else(self, data: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            (data / "policy.yaml").write_text(LISTED.format(url=f"http://127.0.0.1:{port}"))
            with pytest.raises(dev.DevError, match="that port is taken"):
                dev.issuer_site(settings(data), data)
            (data / "policy.yaml").write_text("version: 1\n")
            assert dev.issuer_site(settings(data, port - 2), data) is None

    def test_a_port_that_dev_itself_uses_is_taken_too(self, data: Path) -> None:
        (port,) = free_ports(1)
        (data / "policy.yaml").write_text(LISTED.format(url=f"http://127.0.0.1:{port}"))
        with pytest.raises(dev.DevError, match="that port is taken"):
            dev.issuer_site(settings(data, EDGEPROXY_OPERATIONS_BIND=f"127.0.0.1:{port}"), data)


def test_the_help_says_what_a_token_is_for() -> None:
    shown = CliRunner().invoke(app, ["dev-token", "--help"]).stdout
    assert "docker login -u oidc --password-stdin" in " ".join(shown.split())
