"""Upload tokens open one session, for one caller, in one repository, for a day."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.oci.errors import BlobUploadUnknown
from edgeproxy.oci.names import Repository
from edgeproxy.registry.sessions import Session, SessionTokens

NOW = 1_800_000_000
APP, OTHER = Repository("acme/app"), Repository("acme/app2")
CALLER = "ci\nrepo:acme/app"
TOKENS = SessionTokens(lambda: [b"k" * 32], lambda: NOW)

sessions = st.builds(
    Session,
    upload=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    sequence=st.integers(0, 10_000),
    offset=st.integers(0, 2**62),
    algorithm=st.sampled_from(["sha256", "sha512"]),
    expires=st.integers(NOW + 1, NOW + 86_400),
)


def flipped(token: str, bit: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[bit // 8] ^= 1 << bit % 8
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refuses(tokens: SessionTokens, token: str, repository: Repository = APP, caller: str = CALLER) -> bool:
    try:
        tokens.read(token, repository, caller)
    except BlobUploadUnknown:
        return True
    return False


@given(sessions)
def test_a_token_gives_its_session_back_and_fits_into_a_path(session: Session) -> None:
    token = TOKENS.issue(session, APP, CALLER)
    assert TOKENS.read(token, APP, CALLER) == session
    assert token.replace("-", "").replace("_", "").isalnum()


@given(sessions, st.data())
def test_no_single_bit_of_a_token_may_be_flipped(session: Session, data: st.DataObject) -> None:
    token = TOKENS.issue(session, APP, CALLER)
    bits = len(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))) * 8
    assert refuses(TOKENS, flipped(token, data.draw(st.integers(0, bits - 1))))


def test_no_bit_of_one_token_may_be_flipped() -> None:
    token = TOKENS.issue(Session("a" * 32, 1, 2, "sha256", NOW + 1), APP, CALLER)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert all(refuses(TOKENS, flipped(token, bit)) for bit in range(len(raw) * 8))


@given(sessions, st.data())
def test_no_character_of_a_token_may_be_another(session: Session, data: st.DataObject) -> None:
    """Base64 has several spellings of the same bytes; only one is the token."""
    token = TOKENS.issue(session, APP, CALLER)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    changed = token[:place] + other + token[place + 1 :]
    assert refuses(TOKENS, changed) == (changed != token)


@given(st.from_regex(r"[A-Za-z0-9_-]{0,200}", fullmatch=True))
def test_what_was_never_issued_is_refused(token: str) -> None:
    assert refuses(TOKENS, token)


@given(sessions)
def test_upload_session_idor_is_prevented(session: Session) -> None:
    """A token of one repository and caller opens nothing for another one, nor elsewhere."""
    token = TOKENS.issue(session, APP, CALLER)
    assert refuses(TOKENS, token, OTHER)
    for caller in ("", "ci\nrepo:acme/other", "staff\nrepo:acme/app", CALLER + "\0", CALLER + "\n"):
        assert refuses(TOKENS, token, caller=caller)
    anonymous = TOKENS.issue(session, APP, "")
    assert refuses(TOKENS, anonymous)
    assert TOKENS.read(anonymous, APP, "") == session


def test_the_border_between_repository_and_caller_cannot_be_moved() -> None:
    session = Session("a" * 32, 0, 0, "sha256", NOW + 1)
    token = TOKENS.issue(session, Repository("a"), "b")
    assert refuses(TOKENS, token, Repository("a/b"), "")
    assert refuses(TOKENS, token, Repository("ab"), "")


def test_a_token_expires_to_the_second() -> None:
    now = float(NOW)
    tokens = SessionTokens(lambda: [b"k" * 32], lambda: now)
    token = tokens.issue(Session("a" * 32, 0, 0, "sha256", NOW + 10), APP, CALLER)
    now = NOW + 9.9
    tokens.read(token, APP, CALLER)
    now = NOW + 10.0
    with pytest.raises(BlobUploadUnknown, match="expired"):
        tokens.read(token, APP, CALLER)


def test_a_rotated_key_still_reads_until_it_is_retired() -> None:
    keys = [b"old" * 11]
    tokens = SessionTokens(lambda: keys, lambda: NOW)
    session = Session("a" * 32, 0, 0, "sha256", NOW + 10)
    old = tokens.issue(session, APP, CALLER)
    keys.insert(0, b"new" * 11)
    new = tokens.issue(session, APP, CALLER)
    assert new != old
    assert [tokens.read(token, APP, CALLER) for token in (old, new)] == [session, session]
    keys.pop()
    assert [refuses(tokens, token) for token in (old, new)] == [True, False]


def test_a_token_shows_no_key_and_no_caller() -> None:
    token = TOKENS.issue(Session("a" * 32, 0, 0, "sha256", NOW + 10), APP, CALLER)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"acme" not in raw
    assert b"kkk" not in raw
