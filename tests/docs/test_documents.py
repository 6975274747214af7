"""CONTRIBUTING.md and docs/ say what is so: tables are those of the code, documents load, links and names lead somewhere."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from edgeproxy import config
from edgeproxy.access import issuers, lint, signing, tokens
from edgeproxy.access.document import json_schema
from edgeproxy.access.explain import run_tests
from edgeproxy.access.policy import load_policy
from edgeproxy.addresses import S3StoreLocation
from edgeproxy.dev import defaults
from edgeproxy.registry import blobs, cache, manifests, memory, sessions
from edgeproxy.reload import POLL_SECONDS
from edgeproxy.serving import GRACE_SECONDS
from edgeproxy.storage import MAX_PARTS, MIN_PART_BYTES, keys, s3_followed
from edgeproxy.web import bodies, gate
from edgeproxy.web import registry as web
from tests.clients.test_refusal_messages import SAID
from tests.docs.pages import PAGES, README, ROOT, Page, anchor
from tests.programs import EDGEPROXY, clean_environment, program, run

NAMES: Final = {
    "README.md",
    "CONTRIBUTING.md",
    "architecture.md",
    "clients.md",
    "container.md",
    "deployment.md",
    "metrics.md",
    "operations.md",
    "policy.md",
    "security.md",
    "settings.md",
}
PER_PAGE: Final = pytest.mark.parametrize(
    "page", [Page.read(path) for path in PAGES], ids=[path.name for path in PAGES]
)
NOW: Final = 1_800_000_000.0
FILES: Final = {
    "cluster-jwks.json": json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}).encode(),
    "company-ca.pem": b"-----BEGIN CERTIFICATE-----\n",
}

SETTINGS_OF_TESTS: Final = {"EDGEPROXY_TEST_PROGRAMS", "EDGEPROXY_REQUIRE_PROGRAMS", "EDGEPROXY_TEST_BASE"}


def page(name: str) -> Page:
    """Read a page below docs/."""
    return Page.read(ROOT / "docs" / name)


def in_backticks(text: str) -> Iterator[str]:
    """Give what stands between single backticks."""
    yield from re.findall(r"`([^`\n]+)`", text)


def test_every_page_is_there_and_says_something() -> None:
    assert {path.name for path in PAGES} == NAMES
    for path in PAGES:
        assert len(path.read_text().split()) > 300, path.name


@PER_PAGE
def test_every_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        name, _, wanted = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        assert not link.startswith("http"), link
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not wanted or wanted in Page.read(target).anchors, link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in Page.read(README).links}

    assert {path.relative_to(ROOT).as_posix() for path in PAGES} - {"README.md"} <= linked


def test_anchors_are_made_as_the_pages_are_shown() -> None:
    assert anchor("From GitHub Actions, GitLab CI and Kubernetes") == "from-github-actions-gitlab-ci-and-kubernetes"
    assert anchor("`edgeproxy dev`") == "edgeproxy-dev"


@PER_PAGE
def test_a_page_names_no_folder_of_a_machine_and_no_package_index(page: Page) -> None:
    text = page.path.read_text()

    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp|Users|opt|mnt)/", text)
    assert not re.search(r"pypi|npmjs|proxy\.golang|index-url|\bdocker\.io/|badge|shields", text)


@PER_PAGE
def test_every_file_that_a_page_names_is_there(page: Page) -> None:
    named = [name for name in in_backticks(page.prose) if re.fullmatch(r"(?:edgeproxy|tests|docs|\.ci)/[\w./-]+", name)]
    for name in named:
        assert (ROOT / name).exists(), name


@PER_PAGE
def test_every_setting_that_a_page_names_exists(page: Page) -> None:
    known = {name for name, _, _ in config.describe()} | SETTINGS_OF_TESTS

    assert set(re.findall(r"EDGEPROXY_[A-Z_]*[A-Z]", page.path.read_text())) <= known


@PER_PAGE
async def test_every_command_that_a_page_names_exists(page: Page, tmp_path: Path) -> None:
    calls = {tuple(text.split()[1:]) for text in in_backticks(page.prose) if re.match(r"edgeproxy [a-z]", text)}
    for words in calls:
        path = [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        told = await run(EDGEPROXY, *path, "--help", environment=clean_environment(tmp_path))
        for word in words:
            assert not word.startswith("--") or word == "--help" or word in told, " ".join(words)


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        text.removeprefix("make ")
        for path in PAGES
        for text in in_backticks(Page.read(path).prose)
        if re.fullmatch(r"make [a-z-]+", text)
    }

    assert {"run", "test", "lint"} <= named
    assert named <= targets


def test_the_table_of_settings_is_that_of_the_code() -> None:
    table = page("settings.md").tables("Settings")[0]

    assert [(name.strip("`"), meaning, default) for name, meaning, default in table] == list(config.describe())


def test_the_settings_file_that_is_shown_loads(tmp_path: Path) -> None:
    (fence,) = (fence for fence in page("settings.md").fences if fence.language == "toml")
    file = tmp_path / "edgeproxy.toml"
    file.write_text(fence.text)
    loaded = config.load({}, file)

    assert isinstance(loaded.store, S3StoreLocation)
    assert (loaded.public_url, loaded.operations_bind) == ("https://registry.example.com", "127.0.0.1:9000")


def test_dev_differs_from_serve_in_what_is_told() -> None:
    table = page("settings.md").tables("`edgeproxy dev`")[0]

    assert {name.strip("`") for name, _ in table} == {
        f"EDGEPROXY_{name.upper()}" for name in defaults(Path("data"), 5000)
    }


def policies() -> list[tuple[str, str]]:
    """Give every policy document that a page below docs/ shows."""
    found = [
        (path.name, fence.text)
        for path in PAGES
        for fence in Page.read(path).fences
        if fence.language == "yaml" and not fence.use and path != README
    ]
    assert found
    return found


@pytest.mark.parametrize(("name", "text"), policies())
def test_a_policy_that_is_shown_loads_for_the_world_is_clean_and_keeps_its_own_promises(name: str, text: str) -> None:
    content = text.encode()
    policy = load_policy(content, source=name, loopback=False, now=NOW, files=FILES.__getitem__)
    results = run_tests(policy, NOW)

    assert lint.lint(content, source=name, now=NOW, files=FILES.__getitem__) == ()
    assert len(results) >= len(policy.rules)
    assert [str(result.explanation) for result in results if not result.passed] == []


def _properties(schema: dict[str, Any]) -> Iterator[str]:
    for part in (schema, *schema["$defs"].values()):
        yield from part.get("properties", {})


def test_every_field_of_a_policy_is_explained() -> None:
    explained = set(in_backticks(page("policy.md").prose))
    written = {word for text in explained for word in re.findall(r"[a-z_]+", text)}

    assert set(_properties(json_schema())) <= written


def test_the_whole_document_shows_every_section() -> None:
    (fence,) = (fence for fence in page("policy.md").fences if fence.language == "yaml")
    sections = [name.strip("`") for name, _ in page("policy.md").tables("The document")[0]]

    assert set(yaml.safe_load(fence.text)) == set(sections) == set(json_schema()["properties"])


def test_every_finding_of_lint_is_listed() -> None:
    listed = [code for code, _ in page("policy.md").tables("What lint finds")[0]]
    used = set()
    for path in (ROOT / "edgeproxy" / "access").glob("lint*.py"):
        used |= set(re.findall(r'"(EP[0-9]{3})"', path.read_text()))

    assert listed == sorted(set(listed)) == sorted(used)
    assert set(re.findall(r"EP[0-9]{3}", lint.__doc__ or "")) == used


def test_the_layout_of_the_bucket_is_that_of_the_code() -> None:
    (fence,) = (fence for fence in page("architecture.md").fences if fence.heading == "The bucket")

    assert fence.text.strip() in (keys.__doc__ or "")


def test_every_room_is_on_the_map() -> None:
    rooms = {path.parent.name for path in (ROOT / "edgeproxy").glob("*/__init__.py")}
    table = {name.strip("`").removeprefix("edgeproxy/") for name, *_ in page("architecture.md").tables("Rooms")[0]}
    (drawn,) = (fence.text for fence in Page.read(ROOT / "CONTRIBUTING.md").fences if fence.heading == "The map")

    assert table == rooms
    assert set(re.findall(r"^  ([a-z]+)/", drawn, re.MULTILINE)) == rooms
    assert all((ROOT / "edgeproxy" / name).exists() for name in re.findall(r"^  (\w+\.py)", drawn, re.MULTILINE))


MIB: Final = 1024 * 1024
SECONDS: Final = f"{cache.FRESH_SECONDS:.0f} s"
NUMBERS: Final = (
    ("architecture.md", f"at most {gate.DECISION_SECONDS:.0f} s |"),
    ("architecture.md", f"{manifests.CACHE_BYTES // MIB} MiB, the least recently used go first"),
    (
        "architecture.md",
        f"{manifests.CACHE_BYTES // MIB} MiB for manifests and {blobs.LINK_BYTES // MIB} MiB for links",
    ),
    ("architecture.md", f"{tokens.CACHE_BYTES // MIB} MiB for tokens (in each of two places)"),
    ("architecture.md", f"{gate.DECISION_BYTES // MIB} MiB for decisions"),
    ("architecture.md", f"{blobs.DELETION_BYTES // MIB} MiB for deletions"),
    ("architecture.md", f"is asked again after {SECONDS}"),
    ("architecture.md", f"another may serve for {SECONDS}"),
    ("architecture.md", f"serves {('zero', 'ten')[cache.STALE_SECONDS == 600]} minutes past its life"),
    ("architecture.md", f"{('zero', 'ten')[issuers.REFRESH_SECONDS == 600]} minutes, kept for a day"),
    ("architecture.md", f"Parts of {memory.PART_BYTES // MIB} MiB, {MIN_PART_BYTES // MIB} MiB under pressure"),
    ("architecture.md", f"where {MAX_PARTS:,} parts would not do"),
    (
        "architecture.md",
        f"slower than {bodies.SLOW_BYTES / bodies.SLOW_SECONDS / 1024:.0f} KiB/s over {bodies.SLOW_SECONDS:.0f} s",
    ),
    ("architecture.md", f"within {web.ANSWER_SECONDS:.0f} s of the last byte"),
    ("architecture.md", f"up to {GRACE_SECONDS} s"),
    ("operations.md", f"what runs has {GRACE_SECONDS} s to end"),
    ("operations.md", f"is {('zero', 'three')[signing.YOUNG_SECONDS == 180]} minutes old"),
    ("operations.md", f"within {('zero', 'five')[s3_followed.FOLLOW_SECONDS == 5]} seconds after `~/.aws/credentials`"),
    ("policy.md", f"will within {lint.SOON // 86400} days"),
    ("security.md", f"one look-up of unknown keys in {issuers.COOL_DOWN_SECONDS:.0f} s"),
)


@pytest.mark.parametrize(("name", "phrase"), NUMBERS)
def test_a_number_that_is_told_is_that_of_the_code(name: str, phrase: str) -> None:
    assert phrase in page(name).prose


def test_what_is_told_in_words_is_what_the_code_keeps() -> None:
    assert sessions.SESSION_SECONDS == issuers.STALE_SECONDS == 86400
    assert POLL_SECONDS < 5
    assert "It lives a day." in page("architecture.md").prose
    assert "within five seconds" in page("policy.md").prose


PRINTED: Final = {
    "expired token": "The token has expired",
    "wrong audience": "The token is for another audience",
    "unknown issuer": "The issuer is not in the policy",
    "no rule, pull": "No rule allows the pull",
    "no rule, push": "No rule allows the push",
    "denied, pull": "A denial refuses the pull",
    "denied, push": "A denial refuses the push",
    "immutable tag": "The tag is immutable",
}


@pytest.mark.parametrize("situation", SAID)
def test_what_clients_print_is_what_they_are_sent(situation: str) -> None:
    sentence = SAID[situation]
    (printed,) = page("clients.md").tables(PRINTED[situation])

    assert [name for name, _ in printed] == ["docker", "podman", "crane", "oras", "ctr"]
    assert sentence.removesuffix(" (request ") in printed[0][1]
    assert any(re.search(r"\b40[13]\b", text) for name, text in printed if name == "ctr")


def names_of_tests() -> set[str]:
    """Give the names of all tests there are."""
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_threat_names_tests_that_exist() -> None:
    (threats,) = page("security.md").tables("Threats, and the tests that hold them off")
    known = names_of_tests()

    assert len(threats) >= 25
    for threat, _, cell in threats:
        named = list(in_backticks(cell))
        assert named, threat
        assert set(named) <= known, threat


def test_each_ring_is_where_the_table_says() -> None:
    (rings,) = Page.read(ROOT / "CONTRIBUTING.md").tables("Tests")
    told = {name for row in rings for name in re.findall(r"`tests/([a-z0-9]+)`", row[1])}
    there = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}

    assert told == there


def test_the_result_of_the_mutation_check_has_its_date_or_is_owned_to_be_missing() -> None:
    page = Page.read(ROOT / "CONTRIBUTING.md")
    _, _, section = page.prose.partition("## Mutation results\n")
    dated = re.search(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b", section) and re.search(r"\b[0-9]+ mutants\b", section)

    assert ("Not run yet" in section) != bool(dated)


async def test_the_files_of_the_pipeline_are_what_is_told_of_them(tmp_path: Path) -> None:
    text = Page.read(ROOT / "CONTRIBUTING.md").prose
    for name in (".ci/run", ".ci/versions"):
        assert f"`{name}`" in text
        assert (ROOT / name).is_file()
    await run(program("bash"), "-n", str(ROOT / ".ci" / "run"), environment=clean_environment(tmp_path))
