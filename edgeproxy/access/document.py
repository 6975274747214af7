"""The policy document: its fields and what each may hold, for `parsing` and, as JSON Schema, for editors. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StrictInt, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import NullableSchema

from edgeproxy.access.forms import Condition, Form, Match, Text
from edgeproxy.access.typed import GitHubForm, GitLabForm, KubernetesForm, TypedForm
from edgeproxy.oci.operations import Action

Algorithm = Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
PUBLIC: Final = "public"
"""What a decision names where `public` allowed it; no rule may be called so."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_URL: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


def is_loopback(host: str | None) -> bool:
    """Tell whether a host of a URL can only be this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_url(url: str) -> str:
    """Refuse what is no plain http(s) URL; https is a question of where it leads, asked in `Issuer`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    if _URL.fullmatch(url) is None or parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError("expected a URL such as https://login.example.com/realms/staff, at most 255 characters")
    if "@" in parts.netloc or "?" in url or "#" in url or "\\" in url:
        raise ValueError("a URL here has no user name, query or fragment")
    return url


def _check_moment(text: str) -> str:
    moment(text)
    return text


def moment(text: str) -> float:
    """Read a date (00:00 UTC on that day) or an RFC 3339 time with its offset, as seconds since the epoch.

    Raises:
        ValueError: it is neither.

    """
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z") from None
    if parsed.tzinfo is None:
        raise ValueError("the time needs its offset: end it with Z for UTC")
    return parsed.timestamp()


def seconds(duration: int | str) -> int:
    """Read a duration that the models took: seconds, or a number with s, m, h or d."""
    return duration if isinstance(duration, int) else int(duration[:-1]) * _UNITS[duration[-1]]


# A literal compares with `==`, in which Python finds 1 and True alike.
def _check_not_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004  pydantic reports a ValueError, not a TypeError
    return value


def _check_boolean(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("expected true")  # noqa: TRY004
    return value


def _check_session(duration: int | str) -> int | str:
    if not 60 <= seconds(duration) <= 86400:
        raise ValueError("expected 60 seconds to 1 day")
    return duration


Duration = (
    Annotated[StrictInt, Field(ge=1, le=10**9)] | Annotated[str, Field(strict=True, pattern=r"^[1-9][0-9]{0,8}[smhd]$")]
)
Moment = Annotated[
    Text, AfterValidator(_check_moment), Field(json_schema_extra={"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"})
]
Url = Annotated[Text, AfterValidator(_check_url), Field(json_schema_extra={"pattern": "^https?://"})]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?$")]
Globs = Annotated[tuple[Annotated[Text, Field(max_length=300)], ...], Field(min_length=1)]
Actions = Annotated[tuple[Action, ...], Field(min_length=1)]


class Keys(Form):
    """Where an issuer's keys come from, if not from discovery: exactly one of `file`, `url` and `inline`."""

    model_config: ClassVar = {
        "json_schema_extra": {"oneOf": [{"required": ["file"]}, {"required": ["url"]}, {"required": ["inline"]}]}
    }

    file: Text | None = None
    """A JWKS file, relative to this document, read when the document is."""
    url: Url | None = None
    """URL of the JWKS."""
    inline: dict[str, Any] | None = None
    """The JWKS itself."""
    not_after: Moment | None = None
    """The keys are not used from then on; a date means 00:00 UTC on that day."""

    @model_validator(mode="after")
    def _is_one(self) -> Keys:
        if sum(source is not None for source in (self.file, self.url, self.inline)) != 1:
            raise ValueError("give exactly one of file, url and inline")
        return self


class Login(Form):
    """How people sign in at this issuer."""

    client_id: Text
    """The public client that `edgeproxy login` uses."""


class IssuerEntry(Form):
    """Someone whose tokens are believed. A token from anyone else is refused before any network call."""

    url: Url
    """The `iss` of its tokens, compared exactly."""
    audiences: Annotated[tuple[Text, ...], Field(min_length=1)]
    """A token must name one of these in `aud`."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ALGORITHMS
    """Signature algorithms that are accepted."""
    max_token_age: Duration | None = Field(default=None, examples=["1h"])
    """Tokens issued longer ago are refused; makes `iat` mandatory."""
    keys: Keys | None = None
    """Where the keys come from; without it, discovery."""
    ca_file: Text | None = None
    """PEM file of a private certificate authority, relative to this document."""
    login: Login | None = None
    """People sign in here with `edgeproxy login`."""
    challenge: bool = True
    """Whether `/v2/` asks anonymous callers to sign in because this issuer is listed. Clients use credentials only where it does."""


class Allow(Form):
    """Actions on repositories."""

    repositories: Globs = Field(examples=[["acme/app", "acme/app/**"]])
    """Globs: `*` stays within one path component, `**` crosses them."""
    actions: Actions = Field(examples=[["pull", "push"]])
    """What may be done there."""


class PublicEntry(Allow):
    """What every caller may do."""

    except_: tuple[Annotated[Text, Field(max_length=300)], ...] = Field(
        default=(), alias="except", min_length=1, examples=[["private/**"]]
    )
    """Globs of repositories that are not meant, though `repositories` covers them."""


_SUBJECTS: Final = ("match", "github", "gitlab", "kubernetes")
_ONE_SUBJECT: Final[list[JsonValue]] = [{"required": [name]} for name in _SUBJECTS]


class Subject(Form):
    """Whom a rule is about: plain claims, or one of the typed forms in their place."""

    match: Match | None = None
    """Claims and what each must be; every one must match, and a missing claim does not."""
    github: GitHubForm | None = None
    """GitHub Actions, in place of `match`."""
    gitlab: GitLabForm | None = None
    """GitLab CI, in place of `match`."""
    kubernetes: KubernetesForm | None = None
    """Kubernetes, in place of `match`."""

    @property
    def typed(self) -> TypedForm | None:
        """The typed form, if one is used."""
        return self.github or self.gitlab or self.kubernetes

    @property
    def form(self) -> str:
        """The field in which the match was written."""
        return next((name for name in _SUBJECTS if getattr(self, name) is not None), "match")

    @property
    def conditions(self) -> dict[str, Condition]:
        """The plain match, whichever way it was written; empty if there is none."""
        return self.typed.expand() if self.typed else self.match or {}

    def _given(self) -> int:
        return sum(getattr(self, name) is not None for name in _SUBJECTS)


class RuleEntry(Subject):
    """One complete permission. A caller gets the union of the rules that match."""

    model_config: ClassVar = {"json_schema_extra": {"oneOf": _ONE_SUBJECT}}

    name: Name
    """Unique; told to callers that are refused, and written to the audit."""
    issuer: Text
    """A name of `issuers`."""
    allow: Annotated[tuple[Allow, ...], Field(min_length=1)]
    """What whoever matches may do."""
    deliver: Literal["redirect", "proxy"] | None = None
    """How blobs travel; where several rules match, `proxy` wins."""
    token_seconds: Annotated[Duration, AfterValidator(_check_session)] | None = Field(default=None, examples=[3600])
    """Life of our bearer, also past the end of the token shown; 60 seconds to a day."""
    expires: Moment | None = Field(default=None, examples=["2027-01-31"])
    """From then on the rule matches nothing; a date means 00:00 UTC on that day."""
    mode: Literal["enforce", "audit"] = "enforce"
    """`audit`: decides nothing, is logged as if it did."""

    @model_validator(mode="after")
    def _is_about_someone(self) -> RuleEntry:
        if self._given() != 1:
            raise ValueError("give exactly one of match, github, gitlab and kubernetes: a rule is about someone")
        return self


class DenyEntry(Subject):
    """A refusal that beats every rule and `public`. Without `issuer` and a match it holds for everyone."""

    model_config: ClassVar = {
        "json_schema_extra": {
            "oneOf": [
                *_ONE_SUBJECT,
                {"not": {"anyOf": _ONE_SUBJECT}},
            ]
        }
    }

    name: Name
    """Unique among rules and denials."""
    issuer: Text | None = None
    """A name of `issuers`; only its callers are refused."""
    repositories: Globs
    """Where it holds."""
    actions: Actions
    """What is refused."""

    @model_validator(mode="after")
    def _has_one_form(self) -> DenyEntry:
        if self._given() > 1:
            raise ValueError("give at most one of match, github, gitlab and kubernetes")
        return self


class TagsEntry(Form):
    """Tags that may be created, and never moved or deleted."""

    repositories: Globs
    """Where it holds."""
    tags: Globs = Field(examples=[["v*"]])
    """Globs over tags."""
    immutable: Annotated[Literal[True], BeforeValidator(_check_boolean)]
    """Always true; there is nothing else to say of tags yet."""


class TestEntry(Form):
    """One expectation, run by `edgeproxy policy test`."""

    issuer: Text | None = None
    """A name of `issuers`; without it, an anonymous caller."""
    claims: dict[str, Any] = Field(default_factory=dict)
    """Claims of the caller's token."""
    repository: Text
    """The repository asked for."""
    action: Action
    """The action asked for."""
    expect: Literal["allow", "deny"]
    """What the policy must decide."""


class PolicyDocument(Form):
    """Who may do what in an edgeproxy registry: verified OIDC claims decide every request."""

    version: Annotated[Literal[1], BeforeValidator(_check_not_boolean)]
    """The version of this format."""
    issuers: dict[Name, IssuerEntry] = Field(default_factory=dict)
    """Whose tokens are believed, by the names that rules use."""
    rules: tuple[RuleEntry, ...] = ()
    """Who may do what."""
    deny: tuple[DenyEntry, ...] = ()
    """What nobody, or certain callers, may do whatever the rules say."""
    hide: tuple[Annotated[Text, Field(max_length=300)], ...] = ()
    """Globs of repositories whose refusals answer 404 instead of 403."""
    public: tuple[PublicEntry, ...] = ()
    """What every caller may do, with or without a credential."""
    tags: tuple[TagsEntry, ...] = ()
    """Immutable tags."""
    tests: tuple[TestEntry, ...] = ()
    """Expectations of this document about itself."""


class _WithoutNull(GenerateJsonSchema):
    """A field is given or left out; an empty one is refused, so the schema knows no null."""

    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """Describe the document for editors: the structure that is accepted, not the references between its parts."""
    schema = PolicyDocument.model_json_schema(schema_generator=_WithoutNull, by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "edgeproxy policy"}
