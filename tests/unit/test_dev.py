from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeproxy import config, dev
from edgeproxy.access.decisions import Denial, Grant
from edgeproxy.access.explain import run_tests
from edgeproxy.access.policy import load_policy
from edgeproxy.access.signing import SigningKeys
from edgeproxy.addresses import FileStore
from edgeproxy.oci.names import Repository
from edgeproxy.oci.operations import Access, Action
from edgeproxy.settings import Settings


def settings(data: Path, port: int = 5000, **environment: str) -> Settings:
    return config.load(environment, None, defaults=dev.defaults(data, port))


def test_registry_and_store_have_different_host_names_on_loopback(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.public_url == "http://localhost:5000"
    assert found.store_public_endpoint == "http://127.0.0.1:5001"
    assert found.loopback


def test_a_port_moves_both(tmp_path: Path) -> None:
    found = settings(tmp_path, 7000)
    assert (found.public_url, found.store_public_endpoint) == ("http://localhost:7000", "http://127.0.0.1:7001")


def test_everything_lies_in_the_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "a folder, with 100% odd?#letters"
    found = settings(data)
    assert found.store == FileStore(data / "store")
    assert (found.policy, found.signing_keys) == (str(data / "policy.yaml"), data / "signing-keys")


def test_settings_win_over_the_defaults_of_dev(tmp_path: Path) -> None:
    assert settings(tmp_path, EDGEPROXY_REDIRECT_SECONDS="60", EDGEPROXY_AUDIT="stdout").audit == "stdout"


def test_the_first_run_makes_a_policy_and_a_key_and_the_next_keeps_them(tmp_path: Path) -> None:
    data = tmp_path / "new"
    dev.prepare(data)
    key = SigningKeys.load(data / "signing-keys").signing.kid
    assert (data / "signing-keys" / f"{key}.pem").stat().st_mode & 0o777 == 0o600
    assert (data / "policy.yaml").read_text() == dev.STARTER_POLICY
    (data / "policy.yaml").write_text("version: 1\npublic: []\n")
    dev.prepare(data)
    assert (data / "policy.yaml").read_text() == "version: 1\npublic: []\n"
    assert [entry.kid for entry in SigningKeys.load(data / "signing-keys").listing()] == [key]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(dev.DevError, match="--data DIR"):
        dev.prepare(tmp_path / "file" / "below")


def test_the_starter_policy_lets_everyone_push_on_loopback_and_loads_nowhere_else() -> None:
    text = dev.STARTER_POLICY.encode()
    policy = load_policy(text, source="policy.yaml", loopback=True, now=0)
    for action in Action:
        assert isinstance(policy.decide(None, Access(Repository("hello"), action), 0), Grant)
    assert isinstance(policy.decide(None, Access(Repository("private/app"), Action.PULL), 0), Denial)
    with pytest.raises(ValueError, match="loopback"):
        load_policy(text, source="policy.yaml", loopback=False, now=0)


UNCOMMENT = re.compile(r"^#([a-z]|  )", re.MULTILINE)


@pytest.mark.parametrize(
    "text", [dev.STARTER_POLICY, UNCOMMENT.sub(r"\1", dev.STARTER_POLICY)], ids=["as it is", "uncommented"]
)
def test_the_starter_policy_passes_its_own_tests(text: str) -> None:
    results = run_tests(load_policy(text.encode(), source="policy.yaml", loopback=True, now=0), 0)
    assert results
    assert [str(result.explanation) for result in results if not result.passed] == []


def test_what_the_starter_policy_teaches_in_comments_is_a_policy_with_rules() -> None:
    text = UNCOMMENT.sub(r"\1", dev.STARTER_POLICY)
    policy = load_policy(text.encode(), source="policy.yaml", loopback=True, now=0)
    assert policy.issuers
    assert policy.rules
    assert policy.denials
    assert policy.tags


def test_the_greeting_says_where_what_and_how(tmp_path: Path) -> None:
    dev.prepare(tmp_path)
    greeting = dev.greeting(settings(tmp_path), tmp_path)
    assert "http://localhost:5000" in greeting
    assert "http://127.0.0.1:5001" in greeting
    assert "everyone: catalog, delete, pull, push in **" in greeting
    assert "docker push localhost:5000/hello" in greeting


def test_the_greeting_tells_what_the_policy_on_disk_allows(tmp_path: Path) -> None:
    dev.prepare(tmp_path)
    (tmp_path / "policy.yaml").write_text('version: 1\npublic:\n  - {repositories: ["a/*", b], actions: [pull]}\n')
    assert "everyone: pull in a/*, b" in dev.greeting(settings(tmp_path), tmp_path)
    (tmp_path / "policy.yaml").write_text("version: 1\n")
    assert "allows nothing to anyone" in dev.greeting(settings(tmp_path), tmp_path)
    (tmp_path / "policy.yaml").write_text("version: 2\n")
    with pytest.raises(dev.DevError, match=r"policy\.yaml:1"):
        dev.greeting(settings(tmp_path), tmp_path)
