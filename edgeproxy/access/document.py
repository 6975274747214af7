"""The policy document: its parts and their fields, for `parsing` and, as JSON Schema, for editors. `fields` has what a field may hold."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import NullableSchema

from edgeproxy.access.fields import (
    ALGORITHMS,
    Actions,
    Algorithm,
    Duration,
    Globs,
    Moment,
    Name,
    Url,
    check_boolean,
    check_not_boolean,
    check_session,
)
from edgeproxy.access.forms import Condition, Form, Match, Text
from edgeproxy.access.typed import GitHubForm, GitLabForm, KubernetesForm, TypedForm
from edgeproxy.oci.operations import Action

PUBLIC: Final = "public"
"""What a decision names where `public` allowed it; no rule may be called so."""


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
    token_seconds: Annotated[Duration, AfterValidator(check_session)] | None = Field(default=None, examples=[3600])
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
    immutable: Annotated[Literal[True], BeforeValidator(check_boolean)]
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

    version: Annotated[Literal[1], BeforeValidator(check_not_boolean)]
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
