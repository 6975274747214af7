"""Signing key files: what is loaded, which one signs, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from edgeproxy.access import jws
from edgeproxy.access.signing import YOUNG_SECONDS, SigningKeyError, SigningKeys, list_keys, new_key, retire
from tests.issuer import NOW, rsa_key


def written(folder: Path, now: float, number: int = 0) -> str:
    """Make a key whose file is as old as its name says."""
    kid = new_key(folder, now, lambda size: bytes([number] * size))
    os.utime(folder / f"{kid}.pem", (now, now))
    return kid


def pem(key: object, encryption: object = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())  # type: ignore[attr-defined, no-any-return]


def load(path: Path, now: float = NOW) -> SigningKeys:
    return SigningKeys.load(path, lambda: now)


def test_a_new_key_is_named_after_its_time_and_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "keys"
    kid = new_key(folder, 1_800_000_000, lambda size: b"\xab" * size)
    assert kid == "20270115T080000Z-abababab"
    assert [file.name for file in folder.iterdir()] == [f"{kid}.pem"]
    assert (folder / f"{kid}.pem").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_one_key_signs_and_all_verify(tmp_path: Path) -> None:
    first, second = written(tmp_path, NOW - 9000), written(tmp_path, NOW - 3600)
    keys = load(tmp_path)
    assert keys.signing.kid == second
    token = jws.read(keys.signing.sign({"a": 1}, "x+jwt"))
    assert token.header == {"alg": "ES256", "kid": second, "typ": "x+jwt"}
    signer, other = keys.verifying(second), keys.verifying(first)
    assert signer is not None
    assert other is not None
    assert jws.is_signed_by(token, signer.public)
    assert not jws.is_signed_by(token, other.public)
    assert keys.verifying("nobody") is None


def test_a_key_that_has_just_appeared_verifies_but_does_not_sign_yet(tmp_path: Path) -> None:
    old = written(tmp_path, NOW - 9000)
    young = written(tmp_path, NOW)
    keys = load(tmp_path, NOW + YOUNG_SECONDS - 1)
    assert keys.verifying(young) is not None
    assert keys.signing.kid == old
    assert load(tmp_path, NOW + YOUNG_SECONDS).signing.kid == young


def test_the_first_of_only_young_keys_signs(tmp_path: Path) -> None:
    first = written(tmp_path, NOW - 2)
    assert load(tmp_path).signing.kid == first
    written(tmp_path, NOW - 1)
    assert load(tmp_path).signing.kid == first


def test_keys_are_loaded_again_when_files_change(tmp_path: Path) -> None:
    first = written(tmp_path, NOW - 9000)
    keys = load(tmp_path)
    assert not keys.reload()
    second = written(tmp_path, NOW - 3600)
    assert keys.reload()
    assert keys.signing.kid == second
    retire(tmp_path, second)
    assert keys.reload()
    assert keys.signing.kid == first
    assert keys.verifying(second) is None


def test_a_broken_new_file_leaves_the_keys_in_force(tmp_path: Path) -> None:
    kid = written(tmp_path, NOW - 9000)
    keys = load(tmp_path)
    (tmp_path / "zzz.pem").write_bytes(b"nonsense")
    (tmp_path / "zzz.pem").chmod(0o600)
    for _ in range(2):
        with pytest.raises(SigningKeyError, match=r"zzz\.pem is not a private key"):
            keys.reload()
    assert keys.signing.kid == kid


def test_a_single_file_is_named_after_its_key(tmp_path: Path) -> None:
    kid = written(tmp_path, NOW - 9000)
    keys = load(tmp_path / f"{kid}.pem")
    assert keys.signing.kid.startswith("k")
    assert keys.signing.kid != kid
    assert len(keys.signing.kid) == 44
    file = tmp_path / f"{kid}.pem"
    file.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    before = keys.signing.kid
    assert keys.reload()
    assert keys.signing.kid != before


def test_the_public_halves_are_published_and_nothing_else(tmp_path: Path) -> None:
    kids = {written(tmp_path, NOW - 9000), written(tmp_path, NOW - 3600)}
    published = load(tmp_path).jwks()["keys"]
    assert {key["kid"] for key in published} == kids
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"} for key in published)
    assert all((key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256") for key in published)


def test_secrets_are_derived_from_each_key_for_each_purpose(tmp_path: Path) -> None:
    old, middle = written(tmp_path, NOW - 9000), written(tmp_path, NOW - 3600)
    young = written(tmp_path, NOW)
    derived = load(tmp_path).derive("uploads")
    assert [kid for kid, _ in derived] == [middle, young, old], "the one that signs is first, then the newest"
    others = load(tmp_path).derive("something else")
    secrets = [secret for _, secret in derived + others]
    assert len(set(secrets)) == 6
    assert {len(secret) for secret in secrets} == {32}
    assert load(tmp_path).derive("uploads") == derived, "replicas derive the same"


def test_no_private_key_shows(tmp_path: Path) -> None:
    written(tmp_path, NOW)
    keys = load(tmp_path)
    secret = format(keys.signing._private.private_numbers().private_value, "d")
    shown = repr(keys) + repr(keys.signing) + repr(keys.jwks())
    assert "PRIVATE" not in shown
    assert "PrivateKey" not in shown
    assert secret not in shown


def test_keys_are_listed_newest_first(tmp_path: Path) -> None:
    old, young = written(tmp_path, NOW - 9000), written(tmp_path, NOW)
    listing = list_keys(tmp_path, NOW)
    assert [(key.kid, key.since, key.signs) for key in listing] == [(young, NOW, False), (old, NOW - 9000, True)]


def test_a_key_is_retired_but_never_the_only_one(tmp_path: Path) -> None:
    first, second = written(tmp_path, NOW - 9000), written(tmp_path, NOW)
    with pytest.raises(SigningKeyError, match="there is no key 'other'"):
        retire(tmp_path, "other")
    retire(tmp_path, first)
    with pytest.raises(SigningKeyError, match="is the only key; make another first"):
        retire(tmp_path, second)
    assert [key.kid for key in list_keys(tmp_path, NOW)] == [second]


def test_a_key_is_retired_by_its_name_only(tmp_path: Path) -> None:
    folder, outside = tmp_path / "keys", tmp_path / "outside.pem"
    written(folder, NOW - 9000)
    written(folder, NOW)
    outside.write_bytes(b"x")
    with pytest.raises(SigningKeyError, match="there is no key"):
        retire(folder, "../outside")
    assert outside.exists()


def test_files_that_are_no_keys_by_name_are_passed_over(tmp_path: Path) -> None:
    kid = written(tmp_path, NOW)
    (tmp_path / "README").write_text("x")
    (tmp_path / ".hidden.pem").write_text("x")
    assert [key.kid for key in list_keys(tmp_path, NOW)] == [kid]


UNUSABLE: dict[str, tuple[str, Callable[[], bytes], int, str]] = {
    "readable by all": ("k.pem", lambda: pem(ec.generate_private_key(ec.SECP256R1())), 0o604, "chmod o-rw"),
    "writable by all": ("k.pem", lambda: pem(ec.generate_private_key(ec.SECP256R1())), 0o602, "chmod o-rw"),
    "of another curve": ("k.pem", lambda: pem(ec.generate_private_key(ec.SECP384R1())), 0o600, "not an ES256 key"),
    "an Edwards key": ("k.pem", lambda: pem(ed25519.Ed25519PrivateKey.generate()), 0o600, "not an ES256 key"),
    "an RSA key": ("k.pem", lambda: pem(rsa_key()), 0o600, "not an ES256 key"),
    "encrypted": (
        "k.pem",
        lambda: pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x")),
        0o600,
        "is encrypted",
    ),
    "empty": ("k.pem", lambda: b"", 0o600, "not a private key"),
    "nonsense": ("k.pem", lambda: b"\xff\x00", 0o600, "not a private key"),
    "named with a space": ("a k.pem", lambda: pem(ec.generate_private_key(ec.SECP256R1())), 0o600, "the key's `kid`"),
    "named too long": (
        "k" * 65 + ".pem",
        lambda: pem(ec.generate_private_key(ec.SECP256R1())),
        0o600,
        "at most 64 letters",
    ),
}


@pytest.mark.parametrize(("name", "content", "mode", "told"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_key_file_is_refused_that_is(
    tmp_path: Path, name: str, content: Callable[[], bytes], mode: int, told: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content())
    file.chmod(mode)
    with pytest.raises(SigningKeyError, match=told) as caught:
        load(tmp_path)
    assert str(file) in str(caught.value)
    file.unlink()
    good = tmp_path / "k.pem"
    good.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    good.chmod(0o640)
    assert load(tmp_path).signing.kid == "k"


def test_no_key_at_all_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="edgeproxy keys new"):
        load(tmp_path)
    with pytest.raises(SigningKeyError, match=r"No such file.*edgeproxy keys new"):
        load(tmp_path / "missing")


def test_a_new_key_is_not_written_over_a_file(tmp_path: Path) -> None:
    kid = written(tmp_path, NOW)
    with pytest.raises(SigningKeyError, match="move it into a directory"):
        new_key(tmp_path / f"{kid}.pem", NOW)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SigningKeyError, match="cannot be written"):
        new_key(tmp_path / "file" / "keys", NOW)


def test_keys_in_one_text_all_verify_and_the_first_signs_at_once() -> None:
    old, new = pem(ec.generate_private_key(ec.SECP256R1())), pem(ec.generate_private_key(ec.SECP256R1()))
    before = SigningKeys.load(Path(), lambda: NOW, pem=(old + new).decode())
    after = SigningKeys.load(Path(), lambda: NOW, pem=(new + b"a line between\r\n" + old).decode())
    assert before.signing.kid != after.signing.kid
    assert {key.kid for key in before.listing()} == {key.kid for key in after.listing()}
    assert [key.signs for key in before.listing()] == [True, False]
    assert before.reload() is False
    token = jws.read(before.signing.sign({"a": 1}, "x+jwt"))
    verifier = after.verifying(str(token.header["kid"]))
    assert verifier is not None
    assert jws.is_signed_by(token, verifier.public)
    assert after.derive("x")[0][0] == after.signing.kid


def test_a_key_has_the_same_kid_in_a_text_as_in_a_lone_file(tmp_path: Path) -> None:
    key = pem(ec.generate_private_key(ec.SECP256R1()))
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(key)
    assert SigningKeys.load(Path(), lambda: NOW, pem=key.decode()).signing.kid == load(file).signing.kid


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda: pem(rsa_key()), "key 1 of 1 is not an ES256 key", id="RSA"),
        pytest.param(lambda: pem(rsa_key(), BestAvailableEncryption(b"x")), "is encrypted", id="encrypted"),
        pytest.param(
            lambda: pem(ec.generate_private_key(ec.SECP256R1()))[:-20], "must hold whole keys", id="cut short"
        ),
        pytest.param(lambda: 2 * pem(ec.generate_private_key(ec.SECP256R1())), "each once", id="twice the same"),
    ],
)
def test_a_text_that_holds_no_usable_keys_is_refused_and_not_shown(make: Callable[[], bytes], said: str) -> None:
    text = make().decode()
    with pytest.raises(SigningKeyError) as refused:
        SigningKeys.load(Path(), lambda: NOW, pem=text)
    assert said in str(refused.value)
    assert text.splitlines()[1] not in str(refused.value)
