"""Settings: each refusal with its accepting twin one step away."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

import pytest

from edgeproxy import config
from edgeproxy import settings as settings_module
from edgeproxy.addresses import FileStore, S3StoreLocation
from edgeproxy.config import SettingsError
from edgeproxy.settings import STORED_POLICY, Settings

ACCOUNT = "0123456789abcdef0123456789abcdef"
LEAST = {
    "EDGEPROXY_STORE": "file:///var/lib/edgeproxy",
    "EDGEPROXY_POLICY": "policy.yaml",
    "EDGEPROXY_SIGNING_KEYS": "keys",
}
S3 = {**LEAST, "EDGEPROXY_STORE": "s3://bucket?endpoint=https://s3.example.com"}


def loaded(base: Mapping[str, str] = LEAST, file: Path | None = None, /, **settings: str) -> Settings:
    return config.load({**base, **{f"EDGEPROXY_{name.upper()}": value for name, value in settings.items()}}, file)


def problems(base: Mapping[str, str] = LEAST, file: Path | None = None, /, **settings: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        loaded(base, file, **settings)
    return [str(problem) for problem in refused.value.problems]


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = loaded()
    assert settings.bind == "127.0.0.1:5000"
    assert settings.public_url == "http://127.0.0.1:5000"
    assert settings.store == FileStore(Path("/var/lib/edgeproxy"))
    assert settings.store_public_endpoint == "http://localhost:5001"
    assert settings.store_bind == "127.0.0.1:5001"
    assert (settings.deliver, settings.redirect_seconds, settings.token_seconds) == ("redirect", 300, 900)
    assert settings.trusted_proxies == ()
    assert settings.max_manifest_bytes == 4 * 1024 * 1024
    assert settings.max_blob_bytes is None
    assert settings.upload_memory_bytes == 128 * 1024 * 1024
    assert (settings.server, settings.workers, settings.audit) == ("hypercorn", 1, "stdout")
    assert (settings.log_level, settings.operations_bind) == ("info", None)
    assert settings.token_realm == "http://127.0.0.1:5000/token"
    assert settings.token_service == "127.0.0.1:5000"


def test_every_setting_is_described() -> None:
    assert {name for name, _, _ in config.describe()} == {
        f"EDGEPROXY_{name.upper()}" for name in Settings.__dataclass_fields__
    }


def test_what_is_required_is_told_all_at_once() -> None:
    told = problems({})
    assert [line.split()[2] for line in told] == ["EDGEPROXY_STORE", "EDGEPROXY_POLICY", "EDGEPROXY_SIGNING_KEYS"]


def test_all_problems_are_told_together() -> None:
    told = problems(bind="0.0.0.0", redirect_seconds="5", deliver="carrier-pigeon", publik_url="x")
    assert len(told) == 4
    assert "environment: EDGEPROXY_PUBLIK_URL is not a setting; did you mean EDGEPROXY_PUBLIC_URL?" in told
    assert "environment: EDGEPROXY_REDIRECT_SECONDS must be a whole number from 10 to 3600" in told
    assert "environment: EDGEPROXY_DELIVER must be redirect or proxy" in told


def test_an_unknown_name_in_lower_case_is_refused_too() -> None:
    with pytest.raises(SettingsError, match="EDGEPROXY_bind is not a setting; did you mean EDGEPROXY_BIND"):
        config.load({**LEAST, "EDGEPROXY_bind": "127.0.0.1:1"}, None)


def test_variables_of_others_are_left_alone() -> None:
    links = {
        "EDGEPROXY_SERVICE_HOST": "10.0.0.1",
        "EDGEPROXY_SERVICE_PORT_HTTP": "5000",
        "EDGEPROXY_PORT": "tcp://10.0.0.1:5000",
        "EDGEPROXY_PORT_5000_TCP_ADDR": "10.0.0.1",
        "EDGEPROXY_CANARY_SERVICE_HOST": "10.0.0.2",
        "EDGEPROXYX": "1",
        "OTHER_BIND": "2",
    }
    assert config.load({**LEAST, **links}, None) == config.load(LEAST, None)


def test_a_port_that_a_person_set_is_no_service_link() -> None:
    assert "EDGEPROXY_PORT is not a setting" in problems(port="5000")[0]


def test_an_empty_value_is_none() -> None:
    assert loaded(bind="", audit="  ").bind == "127.0.0.1:5000"
    assert "EDGEPROXY_POLICY is required" in problems(policy="")[0]


class TestFile:
    def test_a_file_holds_the_names_in_lower_case(self, tmp_path: Path) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text(
            f'store = "r2://{ACCOUNT}/images"\npolicy = "store:"\nsigning_keys = "k"\nredirect_seconds = 60\n'
        )
        settings = config.load({}, file)
        assert settings.redirect_seconds == 60
        assert settings.policy == STORED_POLICY

    def test_the_environment_wins(self, tmp_path: Path) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text('redirect_seconds = 60\ntrusted_proxies = ["10.0.0.0/8", "fd00::/8"]\n')
        settings = loaded(LEAST, file, redirect_seconds="70")
        assert settings.redirect_seconds == 70
        assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))

    def test_a_bad_value_names_file_and_line(self, tmp_path: Path) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text('# comment\nworkers = 2\n\ntoken_seconds = 30\n"log_level" = "loud"\n')
        assert problems(LEAST, file) == [
            f"{file}:4: token_seconds must be a whole number from 60 to 3600",
            f"{file}:5: log_level must be debug, info, warning or error",
        ]

    def test_an_unknown_name_names_file_and_line_and_the_nearest(self, tmp_path: Path) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text('workers = 2\ntoken_secs = 300\n[store]\nurl = "file:///x"\n')
        told = problems(LEAST, file)
        assert f"{file}:2: token_secs is not a setting; did you mean token_seconds?" in told
        assert f"{file}:3: store must be a text in quotes, a whole number or a list of texts" in told

    @pytest.mark.parametrize("value", ["true", "1.5", "2026-01-01", "[1, 2]", "{a = 1}"])
    def test_a_value_of_another_type_is_refused(self, tmp_path: Path, value: str) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text(f"workers = {value}\n")
        assert problems(LEAST, file) == [
            f"{file}:1: workers must be a text in quotes, a whole number or a list of texts"
        ]

    def test_what_is_not_toml_names_the_line(self, tmp_path: Path) -> None:
        file = tmp_path / "edgeproxy.toml"
        file.write_text("workers = 1\nbind = 127.0.0.1:5000\n")
        assert problems(LEAST, file)[0].startswith(f"{file}:2: is not TOML")

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        assert problems(LEAST, tmp_path / "none.toml") == [
            f"{tmp_path}/none.toml: cannot be read: No such file or directory"
        ]


class TestBind:
    @pytest.mark.parametrize(
        ("text", "addresses"),
        [
            ("127.0.0.1:5000", ("127.0.0.1:5000",)),
            ("[::1]:5000", ("[::1]:5000",)),
            ("[0:0::1]:5000", ("[::1]:5000",)),
            ("127.0.0.1:65535", ("127.0.0.1:65535",)),
        ],
    )
    def test_an_address_is_bound_as_the_server_wants_it(self, text: str, addresses: tuple[str, ...]) -> None:
        assert loaded(S3, bind=text).bind_addresses == addresses

    def test_a_unix_socket_is_bound_as_such_and_needs_a_public_url(self) -> None:
        settings = loaded(S3, bind="unix:/run/edgeproxy.sock", public_url="https://r.example.org")
        assert settings.bind_addresses == ("unix:/run/edgeproxy.sock",)
        assert "EDGEPROXY_PUBLIC_URL is required" in problems(S3, bind="unix:/run/edgeproxy.sock")[0]

    def test_localhost_is_both_addresses_where_the_machine_has_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(bind="localhost:5000")
        monkeypatch.setattr(settings_module, "_has_ipv6", lambda: True)
        assert list(settings.bind_addresses) == ["127.0.0.1:5000", "[::1]:5000"]
        assert list(settings.store_bind_addresses) == ["127.0.0.1:5001", "[::1]:5001"]
        monkeypatch.setattr(settings_module, "_has_ipv6", lambda: False)
        assert list(settings.bind_addresses) == ["127.0.0.1:5000"]
        assert (settings.public_url, settings.store_public_endpoint) == (
            "http://localhost:5000",
            "http://127.0.0.1:5001",
        )

    @pytest.mark.parametrize(
        "text",
        [
            "127.0.0.1",
            ":5000",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:5000",
            "[127.0.0.1]:5000",
            "a b:1",
            "1.2.3:80",
            "unix:",
            "unix:run/x",
        ],
    )
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        assert problems(S3, bind=text)[0].startswith("environment: EDGEPROXY_BIND")

    def test_two_listeners_on_one_address_are_refused(self) -> None:
        assert "EDGEPROXY_OPERATIONS_BIND is 127.0.0.1:5001" in problems(operations_bind="127.0.0.1:5001")[0]
        assert loaded(operations_bind="127.0.0.1:5002").operations_bind_addresses == ("127.0.0.1:5002",)


class TestPublicURL:
    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("https://Registry.Example.COM/", "https://registry.example.com"),
            ("https://registry.example.com:443", "https://registry.example.com"),
            ("http://registry.example.com:8080", "http://registry.example.com:8080"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ],
    )
    def test_it_has_one_form(self, text: str, url: str) -> None:
        assert loaded(S3, public_url=text).public_url == url

    @pytest.mark.parametrize(
        "text",
        [
            "registry.example.com",
            "ftp://registry.example.com",
            "https://registry.example.com/v2",
            "https://registry.example.com?",
            "https://registry.example.com#x",
            "https://user:secret@registry.example.com",
            "https://",
            "https://registry.example.com:0",
            "https://registry.example.com:x",
            "https://registry example.com",
            "https://::1",
            "https://[::1",
        ],
    )
    def test_what_is_more_or_less_than_scheme_host_and_port_is_refused(self, text: str) -> None:
        told = problems(S3, public_url=text)
        assert len(told) == 1
        assert told[0].startswith("environment: EDGEPROXY_PUBLIC_URL")
        assert "secret" not in told[0]

    def test_it_is_required_off_loopback(self) -> None:
        assert "EDGEPROXY_PUBLIC_URL is required" in problems(S3, bind="0.0.0.0:5000")[0]
        assert loaded(S3, bind="0.0.0.0:5000", public_url="https://r.example.org").loopback is False

    @pytest.mark.parametrize(
        ("bind", "url", "loopback"),
        [
            ("127.0.0.1:5000", "http://localhost:5000", True),
            ("localhost:5000", "http://127.0.0.1:5000", True),
            ("[::1]:5000", "http://[::1]:5000", True),
            ("127.0.0.1:5000", "https://r.example.org", False),
            ("0.0.0.0:5000", "http://localhost:5000", False),
            ("unix:/run/x.sock", "http://localhost:5000", False),
            ("127.0.0.1:5000", "http://localhost.example.org", False),
        ],
    )
    def test_loopback_needs_both_bind_and_public_url(self, bind: str, url: str, loopback: bool) -> None:
        assert loaded(S3, bind=bind, public_url=url).loopback is loopback


class TestStore:
    @pytest.mark.parametrize(
        ("text", "location"),
        [
            ("file:///a/b%20c", FileStore(Path("/a/b c"))),
            ("s3://bucket?region=eu-central-1", S3StoreLocation("bucket", "", None, "eu-central-1")),
            (
                "s3://my.bucket/a/b/?endpoint=http://localhost:9000&region=us-east-1",
                S3StoreLocation("my.bucket", "a/b", "http://localhost:9000", "us-east-1"),
            ),
            (
                f"r2://{ACCOUNT}/images",
                S3StoreLocation("images", "", f"https://{ACCOUNT}.r2.cloudflarestorage.com", "auto"),
            ),
            (
                f"r2://{ACCOUNT}/images/some/prefix?jurisdiction=eu",
                S3StoreLocation("images", "some/prefix", f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com", "auto"),
            ),
            (
                f"r2://{ACCOUNT}/images?jurisdiction=default",
                S3StoreLocation("images", "", f"https://{ACCOUNT}.r2.cloudflarestorage.com", "auto"),
            ),
        ],
    )
    def test_a_store_url_becomes_a_place(self, text: str, location: object) -> None:
        assert loaded(store=text).store == location

    @pytest.mark.parametrize(
        "text",
        [
            "/var/lib/edgeproxy",
            "file:relative",
            "file://host/dir",
            "s3://bucket",
            "s3://bucket?region=auto",
            "s3://Bucket?region=eu-central-1",
            "s3://bucket/a/../b?region=eu-central-1",
            "s3://bucket/a//b?region=eu-central-1",
            "s3://bucket?endpoint=s3.example.com",
            "s3://bucket?endpoint=https://s3.example.com/path",
            "s3://bucket?region=eu&region=us",
            "s3://key:secret@bucket?region=eu-central-1",
            "s3://bucket?region=eu-central-1&secret_key=secret",
            f"r2://{ACCOUNT[:-1]}/images",
            f"r2://{ACCOUNT.upper()}/images",
            f"r2://{ACCOUNT}/images?jurisdiction=mars",
            f"r2://{ACCOUNT}/images?endpoint=https://x.example",
            f"r2://{ACCOUNT}",
            "gs://bucket",
        ],
    )
    def test_what_is_no_store_is_refused_and_no_secret_repeated(self, text: str) -> None:
        told = problems(store=text)
        assert len(told) == 1
        assert told[0].startswith("environment: EDGEPROXY_STORE ")
        assert "=secret" not in told[0]
        assert ":secret" not in told[0]

    def test_the_public_endpoint_of_a_bucket_is_its_endpoint(self) -> None:
        assert loaded(S3).store_public_endpoint == "https://s3.example.com"
        aws = loaded(store="s3://bucket?region=eu-central-1")
        assert aws.store_public_endpoint == "https://s3.eu-central-1.amazonaws.com"
        assert aws.store_bind is None
        assert aws.store_bind_addresses == ()

    def test_a_directory_that_others_use_needs_its_public_endpoint(self) -> None:
        away = {"bind": "0.0.0.0:5000", "public_url": "https://r.example.org"}
        assert "EDGEPROXY_STORE_PUBLIC_ENDPOINT is required" in problems(**away)[0]
        settings = loaded(**away, store_public_endpoint="https://blobs.example.org")
        assert settings.store_bind == "0.0.0.0:5001"
        assert loaded(**away, deliver="proxy").deliver == "proxy"

    def test_the_store_needs_a_port_after_the_registry(self) -> None:
        assert "EDGEPROXY_STORE_BIND is required" in problems(bind="127.0.0.1:65535")[0]
        assert loaded(bind="127.0.0.1:65535", store_bind="127.0.0.1:5001").store_bind == "127.0.0.1:5001"


class TestStoreHost:
    @pytest.mark.parametrize(
        ("public", "store"),
        [
            ("https://r.example.org", "https://r.example.org:8443"),
            ("https://r.example.org", "https://R.Example.org"),
            ("https://r.example.org", "https://r.example.org."),
            ("https://r.example.org.", "https://blobs.r.example.org"),
            ("https://r.example.org", "https://blobs.r.example.org"),
            ("https://bücher.example", "https://s3.xn--bcher-kva.example"),
            ("http://[::1]:5000", "http://[0::1]:5001"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001"),
        ],
    )
    def test_a_store_at_or_under_the_public_host_is_refused(self, public: str, store: str) -> None:
        told = problems(S3, public_url=public, store_public_endpoint=store)
        assert len(told) == 1
        assert "EDGEPROXY_STORE_PUBLIC_ENDPOINT has the host" in told[0]
        assert "EDGEPROXY_DELIVER=proxy" in told[0]

    @pytest.mark.parametrize(
        ("public", "store"),
        [
            ("https://r.example.org", "https://blobs.example.org"),
            ("https://r.example.org", "https://xr.example.org"),
            ("https://r.example.org", "https://example.org"),
            ("http://127.0.0.1:5000", "http://localhost:5001"),
            ("http://127.0.0.1:5000", "http://127.0.0.2:5001"),
            ("http://[::1]:5000", "http://[::2]:5001"),
        ],
    )
    def test_a_store_at_another_host_is_taken(self, public: str, store: str) -> None:
        assert loaded(S3, public_url=public, store_public_endpoint=store).store_public_endpoint == store

    def test_the_default_endpoint_is_looked_at_too(self) -> None:
        assert "EDGEPROXY_STORE_PUBLIC_ENDPOINT has the host" in problems(S3, public_url="https://example.com")[0]

    def test_where_nothing_is_redirected_any_host_will_do(self) -> None:
        settings = loaded(S3, public_url="https://example.com", deliver="proxy")
        assert settings.store_public_endpoint == "https://s3.example.com"


class TestQuantities:
    @pytest.mark.parametrize(
        ("setting", "least", "most"),
        [("redirect_seconds", 10, 3600), ("token_seconds", 60, 3600), ("workers", 1, 256)],
    )
    def test_a_number_has_its_range(self, setting: str, least: int, most: int) -> None:
        assert getattr(loaded(**{setting: str(least)}), setting) == least
        assert getattr(loaded(**{setting: str(most)}), setting) == most
        for wrong in (str(least - 1), str(most + 1), "1e2", "1_00", "+100", "\u0661\u0660\u0660", "100s"):
            assert (
                f"EDGEPROXY_{setting.upper()} must be a whole number from {least} to {most}"
                in problems(**{setting: wrong})[0]
            )

    @pytest.mark.parametrize(
        ("text", "size"),
        [("1048576", 1 << 20), ("1024KiB", 1 << 20), ("1 MiB", 1 << 20), ("1MiB", 1 << 20)],
    )
    def test_a_size_has_units_of_1024(self, text: str, size: int) -> None:
        assert loaded(max_manifest_bytes=text).max_manifest_bytes == size

    @pytest.mark.parametrize("text", ["1MB", "1.5MiB", "-1", "0", "65MiB", "MiB", "none"])
    def test_what_is_no_size_is_refused(self, text: str) -> None:
        assert (
            "EDGEPROXY_MAX_MANIFEST_BYTES must be a number of bytes from 1024 to 67108864"
            in problems(max_manifest_bytes=text)[0]
        )

    def test_only_the_size_of_blobs_may_be_unlimited(self) -> None:
        assert loaded(max_blob_bytes="none").max_blob_bytes is None
        assert loaded(max_blob_bytes="10GiB").max_blob_bytes == 10 << 30
        assert "EDGEPROXY_UPLOAD_MEMORY_BYTES" in problems(upload_memory_bytes="none")[0]

    def test_a_network_with_host_bits_is_told_the_network(self) -> None:
        assert "did you mean 10.0.0.0/8?" in problems(trusted_proxies="10.0.0.1/8")[0]
        assert loaded(trusted_proxies="10.0.0.1").trusted_proxies == (ip_network("10.0.0.1/32"),)
        assert "EDGEPROXY_TRUSTED_PROXIES must be CIDRs" in problems(trusted_proxies="10.0.0.0/8,")[0]
        assert loaded(trusted_proxies="unix, fd00::/8").trusted_proxies == ("unix", ip_network("fd00::/8"))
        assert "or unix" in problems(trusted_proxies="unix:/run/edgeproxy.sock")[0]
        assert loaded(trusted_proxies="::ffff:10.0.0.0/104").trusted_proxies == (ip_network("10.0.0.0/8"),)
        assert loaded(trusted_proxies="::/0").trusted_proxies == (ip_network("::/0"),)

    @pytest.mark.parametrize("text", ["stdout", "file:/var/log/audit", "stdout,file:a", "file:a, file:b"])
    def test_audit_goes_to_one_or_more_places(self, text: str) -> None:
        assert loaded(audit=text).audit == text.replace(" ", "")

    @pytest.mark.parametrize("text", ["stderr", "file:", "stdout,stdout", "syslog:x", "stdout,"])
    def test_audit_to_nowhere_is_refused(self, text: str) -> None:
        assert "EDGEPROXY_AUDIT" in problems(audit=text)[0]

    def test_a_pasted_key_is_not_shown(self) -> None:
        told = problems(signing_keys="-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----")[0]
        assert "not the key itself" in told
        assert "c2VjcmV0" not in told

    def test_keys_may_stand_in_the_environment_and_are_in_no_repr(self) -> None:
        key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
        least = {name: value for name, value in LEAST.items() if name != "EDGEPROXY_SIGNING_KEYS"}
        settings = loaded(least, signing_keys_pem=f"{key}\n")
        assert settings.signing_keys_pem == key
        assert "c2VjcmV0" not in repr(settings)

    def test_keys_are_required_in_one_way_and_not_in_both(self) -> None:
        least = {name: value for name, value in LEAST.items() if name != "EDGEPROXY_SIGNING_KEYS"}
        key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"
        assert "EDGEPROXY_SIGNING_KEYS_PEM" in problems(least)[0]
        assert "set one of the two" in problems(signing_keys_pem=key)[0]

    def test_a_path_where_a_key_is_wanted_is_not_shown(self) -> None:
        least = {name: value for name, value in LEAST.items() if name != "EDGEPROXY_SIGNING_KEYS"}
        told = problems(least, signing_keys_pem="c2VjcmV0")[0]
        assert "from its BEGIN line to its END line" in told
        assert "c2VjcmV0" not in told

    def test_a_server_that_is_not_installed_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert loaded(server="granian").server == "granian"
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        assert "pip install 'edgeproxy[granian]'" in problems(server="granian")[0]
        assert loaded(server="hypercorn").server == "hypercorn"


def test_defaults_give_way_to_what_was_set() -> None:
    defaults = {"bind": "localhost:7000", "redirect_seconds": "20"}
    settings = config.load({**LEAST, "EDGEPROXY_REDIRECT_SECONDS": "30"}, None, defaults=defaults)
    assert (settings.bind, settings.redirect_seconds) == ("localhost:7000", 30)


def test_a_bad_default_says_that_it_is_one() -> None:
    with pytest.raises(SettingsError, match=r"^default: EDGEPROXY_WORKERS must be"):
        config.load(LEAST, None, defaults={"workers": "none"})
