"""The rules behind /token: scopes, credentials, forms, and how long a bearer lives."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeproxy.access.decisions import Identity
from edgeproxy.access.exchange import MAX_FIELDS, TOKEN_EXCHANGE, asked, life, read_form, read_query
from edgeproxy.access.policy import load_policy
from edgeproxy.access.refusals import TokenReason, TokenRefused
from edgeproxy.oci.errors import BadRequest
from edgeproxy.oci.names import Repository
from tests.issuer import NOW

FORM = "application/x-www-form-urlencoded"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


def names(*scopes: str) -> set[str]:
    return {repository.name for repository in asked(scopes)}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ((), set()),
        (("",), set()),
        (("repository:acme/app:pull",), {"acme/app"}),
        (("repository:acme/app:pull,push",), {"acme/app"}),
        (("repository(plugin):acme/app:pull",), {"acme/app"}),
        (("repository:acme/app:",), {"acme/app"}),
        (("repository:acme/app:*",), {"acme/app"}),
        (("repository:acme/app:fly",), {"acme/app"}),
        (("repository:a:pull repository:b:push",), {"a", "b"}),
        (("repository:a:pull", "repository:b:push"), {"a", "b"}),
        (("repository:a:pull repository:a:pull,push",), {"a"}),
        (("  repository:a:pull   ",), {"a"}),
        (("registry:catalog:*",), set()),
        (("registry:catalog:* repository:a:pull",), {"a"}),
        (("repository:acme/app",), set()),
        (("repository",), set()),
        (("repository:localhost:5000/app:pull",), set()),
        (("repository:ACME/app:pull",), set()),
        (("repository:../app:pull",), set()),
        (("repository:**:pull",), set()),
        (("repository::pull",), set()),
        (("repository:a\n:pull",), set()),
        (("Repository:a:pull",), set()),
        (("repositorys:a:pull",), set()),
        (("repository:" + "a" * 256 + ":pull repository:b:pull",), {"b"}),
    ],
)
def test_scopes_name_repositories_and_what_they_do_not_know_is_ignored(
    scopes: tuple[str, ...], expected: set[str]
) -> None:
    assert names(*scopes) == expected


def test_a_scope_names_no_more_repositories_than_a_bearer_holds() -> None:
    many = [f"repository:{number:0128}:pull" for number in range(33)]
    assert len(names(*many[:32])) == 32
    with pytest.raises(BadRequest, match="too many repositories"):
        asked(many)


@given(st.text(max_size=80))
def test_no_scope_fails(text: str) -> None:
    assert all(Repository.parse(name) for name in names(text, f"repository:{text}:pull"))


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_a_query_reads_scopes_and_the_password_of_any_user() -> None:
    query = b"service=somewhere.example&scope=repository:a:pull&scope=repository:b:pull%20repository:c:pull&offline_token=true&x"
    for user in ("oidc", "", "<token>", "a b"):
        request = read_query(query, [basic(user, "to:ken")])
        assert request.token == "to:ken"
        assert {repository.name for repository in request.repositories} == {"a", "b", "c"}
        assert request.grant is None


def test_a_query_without_a_credential_is_anonymous() -> None:
    assert read_query(b"", []).token is None
    assert read_query(b"account=x&password=token&refresh_token=token", []).token is None


@pytest.mark.parametrize(
    "header",
    [
        b"Basic",
        b"Basic !",
        b"Basic " + base64.b64encode(b"user"),
        basic("user", ""),
        basic("", ""),
        b"Bearer x",
        b"\xff x",
    ],
)
def test_a_malformed_credential_is_refused_and_not_anonymous(header: bytes) -> None:
    with pytest.raises(TokenRefused) as caught:
        read_query(b"", [header])
    assert caught.value.reason is TokenReason.CREDENTIAL
    assert read_query(b"", [basic("user", "x")]).token == "x"


def test_two_credentials_are_a_bad_request() -> None:
    with pytest.raises(BadRequest):
        read_query(b"", [basic("user", "x"), basic("user", "x")])


def test_each_grant_has_the_token_in_its_own_field() -> None:
    forms = {
        "password": {"grant_type": "password", "username": "any", "password": "T", "refresh_token": "x"},
        "refresh_token": {"grant_type": "refresh_token", "refresh_token": "T", "password": "x", "client_id": "docker"},
        TOKEN_EXCHANGE: {"grant_type": TOKEN_EXCHANGE, "subject_token": "T", "subject_token_type": JWT_TYPE},
    }
    for grant, form in forms.items():
        request = read_form(FORM, urlencode({**form, "scope": "repository:a:pull repository:b:pull"}).encode())
        assert (request.token, request.grant, len(request.repositories)) == ("T", grant, 2)


@pytest.mark.parametrize("content_type", [FORM, FORM + "; charset=utf-8", FORM.upper() + ";charset=ISO-8859-1", ""])
def test_a_form_may_name_a_charset(content_type: str) -> None:
    assert read_form(content_type, b"grant_type=password&password=T").token == "T"


@pytest.mark.parametrize("kind", ["jwt", "id_token", "access_token"])
@pytest.mark.parametrize("requested", [None, "jwt", "access_token"])
def test_token_exchange_takes_the_usual_types(kind: str, requested: str | None) -> None:
    prefix = "urn:ietf:params:oauth:token-type:"
    form = {"grant_type": TOKEN_EXCHANGE, "subject_token": "T", "subject_token_type": prefix + kind}
    if requested is not None:
        form["requested_token_type"] = prefix + requested
    assert read_form(FORM, urlencode(form).encode()).token == "T"


EXCHANGE = {"grant_type": TOKEN_EXCHANGE, "subject_token": "T", "subject_token_type": JWT_TYPE}
BAD_FORMS: dict[str, tuple[str, bytes]] = {
    "another media type": ("application/json", b'{"grant_type":"password"}'),
    "no grant": (FORM, b"password=T"),
    "an unknown grant": (FORM, b"grant_type=authorization_code&code=T"),
    "an empty grant": (FORM, b"grant_type=&password=T"),
    "two grants": (FORM, b"grant_type=password&grant_type=refresh_token&password=T&refresh_token=U"),
    "two passwords": (FORM, b"grant_type=password&password=T&password=U"),
    "no password": (FORM, b"grant_type=password&username=T"),
    "no refresh token": (FORM, b"grant_type=refresh_token&password=T"),
    "no subject token": (FORM, urlencode({**EXCHANGE, "subject_token": ""}).replace("&subject_token=&", "&").encode()),
    "no subject token type": (FORM, urlencode({**EXCHANGE, "subject_token_type": ""}).encode()),
    "a SAML assertion": (
        FORM,
        urlencode({**EXCHANGE, "subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}).encode(),
    ),
    "a wish for a refresh token": (
        FORM,
        urlencode({**EXCHANGE, "requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}).encode(),
    ),
    "bytes that are not ASCII": (FORM, b"grant_type=password&password=\xff"),
    "percent-encoded bytes that are not UTF-8": (FORM, b"grant_type=password&password=%ff"),
    "very many fields": (FORM, b"grant_type=password&password=T" + b"&x=" * (MAX_FIELDS - 1)),
    "nothing": (FORM, b""),
}


@pytest.mark.parametrize(("content_type", "body"), BAD_FORMS.values(), ids=BAD_FORMS.keys())
def test_a_form_is_a_bad_request_with(content_type: str, body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        read_form(content_type, body)
    assert "T" not in caught.value.message.split()
    assert read_form(FORM, b"grant_type=password&password=T" + b"&x=" * (MAX_FIELDS - 2)).token == "T"


@pytest.mark.parametrize(
    "form", [b"grant_type=password&username=u&password=", b"grant_type=refresh_token&refresh_token="]
)
def test_an_empty_credential_is_refused_and_not_anonymous(form: bytes) -> None:
    with pytest.raises(TokenRefused) as caught:
        read_form(FORM, form)
    assert caught.value.reason is TokenReason.CREDENTIAL


def test_a_request_does_not_show_its_token() -> None:
    assert "hunter2" not in repr(read_form(FORM, b"grant_type=password&password=hunter2"))


POLICY = load_policy(
    b"""
version: 1
issuers:
  main: {url: "https://issuer.example", audiences: [registry.example]}
rules:
  - {name: plain, issuer: main, match: {team: a}, allow: [{repositories: ["acme/**"], actions: [pull]}]}
  - {name: long, issuer: main, match: {team: a}, allow: [{repositories: [acme/slow], actions: [push]}], token_seconds: 7200}
  - {name: short, issuer: main, match: {team: b}, allow: [{repositories: ["**"], actions: [pull]}], token_seconds: 90}
""",
    source="policy.yaml",
    loopback=False,
    now=NOW,
)


@pytest.mark.parametrize(
    ("team", "left", "repositories", "expected"),
    [
        ("a", 3000, ["acme/app"], 900),
        ("a", 300, ["acme/app"], 300),
        ("a", 300.9, ["acme/app"], 300),
        ("a", 59, ["acme/app"], 60),
        ("a", -20, ["acme/app"], 60),
        ("a", 300, ["acme/slow"], 7200),
        ("a", 300, ["acme/app", "acme/slow"], 7200),
        ("b", 3000, ["acme/app"], 90),
        ("c", 3000, ["acme/slow"], 900),
        (None, 0, [], 900),
    ],
)
def test_a_bearer_lives_as_long_as_the_rules_say_or_no_longer_than_the_token(
    team: str | None, left: float, repositories: list[str], expected: int
) -> None:
    caller = None if team is None else Identity("main", "s", {"team": team}, NOW + left)
    assert life(caller, frozenset(map(Repository.parse, repositories)), POLICY, 900, NOW) == expected
