"""Names are accepted exactly where the specifications' own expressions accept them, and refused in words a person can use."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.errors import DigestInvalid, ManifestInvalid, NameInvalid
from edgeproxy.oci.names import Digest, Repository, Tag, parse_reference, shown

# Word for word from distribution-spec, "Pulling manifests".
SPEC_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
SPEC_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

HEX = "0123456789abcdef" * 4
NEAR_NAMES = st.text("abz09._-/ A%é\n", max_size=24)


@pytest.mark.parametrize(
    "name",
    ["a", "0", "acme/app", "a.b", "a_b", "a__b", "a---b", "a/b/c/d", "blobs", "v2/manifests/tags/list", "a" * 255],
)
def test_a_name_of_the_grammar_is_a_repository(name: str) -> None:
    assert str(Repository.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "A",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "a_-b",
            "a.-b",
            "-a",
            "a-",
            "_a",
            "a_",
            ".",
            "..",
            "a/../b",
            "a/./b",
        ),
        *("a b", "a\n", "a\0b", "a%2fb", "é", "а", "a/é", "٣", "a\\b", "a:b", "a@b", "a" * 256),  # noqa: RUF001
    ],
)
def test_anything_else_is_not_a_repository(name: str) -> None:
    with pytest.raises(NameInvalid):
        Repository.parse(name)


@given(NEAR_NAMES)
def test_repositories_are_what_the_specification_says(name: str) -> None:
    try:
        Repository.parse(name)
    except NameInvalid:
        assert SPEC_NAME.fullmatch(name) is None
    else:
        assert SPEC_NAME.fullmatch(name) is not None


@given(st.text("aZ0._-/: é\n", max_size=8) | st.text("a", min_size=126, max_size=130))
def test_tags_are_what_the_specification_says(name: str) -> None:
    try:
        Tag.parse(name)
    except ManifestInvalid:
        assert SPEC_TAG.fullmatch(name) is None
    else:
        assert SPEC_TAG.fullmatch(name) is not None


@pytest.mark.parametrize("name", ["latest", "v1.2", "_", "A-b_c.D", "a" * 128, "sha256-" + HEX])
def test_a_tag_of_the_grammar_is_a_tag(name: str) -> None:
    assert Tag.parse(name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", ".a", "a" * 129, "a/b", "a b", "a\n", "é", "a:b", "a%"])
def test_anything_else_is_not_a_tag(name: str) -> None:
    with pytest.raises(ManifestInvalid):
        Tag.parse(name)


@pytest.mark.parametrize("text", ["sha256:" + HEX, "sha512:" + HEX * 2])
def test_a_digest_of_a_registered_algorithm_is_a_digest(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "sha256", "sha256:", HEX, ":" + HEX, "sha256:" + HEX[:-1], "sha256:" + HEX + "0", "sha512:" + HEX),
        *(
            "sha256:" + HEX.upper(),
            "SHA256:" + HEX,
            "sha256:" + HEX[:-1] + "g",
            "sha256:" + HEX[:-1] + "\n",
            "sha256::" + HEX[1:],
        ),
        *(
            "md5:" + HEX[:32],
            "blake3:" + HEX,
            "sha256+b64:" + HEX,
            "sha256:../../" + HEX[6:],
            "sha256:" + "٣" * 64,
            " sha256:" + HEX,
        ),
    ],
)
def test_anything_else_is_not_a_digest(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@given(st.binary(max_size=64), st.sampled_from(["sha256", "sha512"]))
def test_the_digest_of_content_reads_back(content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    assert digest.hex == hashlib.new(algorithm, content).hexdigest()
    assert Digest.parse(str(digest)) == digest
    assert parse_reference(str(digest)) == digest


def test_a_reference_with_a_colon_is_a_digest_or_nothing() -> None:
    assert parse_reference("latest") == Tag("latest")
    with pytest.raises(DigestInvalid):
        parse_reference("latest:1")
    with pytest.raises(ManifestInvalid):
        parse_reference("-latest")


@given(st.text())
def test_what_a_caller_sent_is_shown_short_and_printable(text: str) -> None:
    quoted = shown(text)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert len(quoted) <= 80 * len(r"\U0010ffff") + 2


def test_a_refusal_names_what_it_refuses() -> None:
    with pytest.raises(NameInvalid, match=re.escape(r"'Bad\nName'")):
        Repository.parse("Bad\nName")
    with pytest.raises(DigestInvalid, match="exactly 64"):
        Digest.parse("sha256:" + HEX[1:])
