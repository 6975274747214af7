"""Typed forms for issuers everyone uses: each names the provider's stable claims and expands to a plain `match`. Pure.

None of them expands to GitHub's or GitLab's `sub`: its shape is configurable, and GitHub changed it in July 2026 to
carry the ids of owner and repository (`repo:acme@123/app@456:ref:...` beside `repo:acme/app:ref:...`). Ids and single
claims hold under both forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, StrictInt, model_validator

from edgeproxy.access.forms import Condition, Form, GlobForm, RegexForm, Text

Id = Annotated[str, Field(strict=True, pattern=r"^[0-9]{1,20}$")] | Annotated[StrictInt, Field(ge=1)]
Ids = Id | Annotated[tuple[Id, ...], Field(min_length=1)]
"""A numeric id or a list of them, quoted or not: the tokens carry them as strings, and so they are compared."""

TextForm = Text | GlobForm | RegexForm | Annotated[tuple[Text | GlobForm | RegexForm, ...], Field(min_length=1)]

KubernetesName = Annotated[str, Field(strict=True, pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class KubernetesGlob(Form):
    """`{glob: "prod-*"}` over a name of Kubernetes."""

    glob: Annotated[str, Field(strict=True, pattern=r"^\*?([a-z0-9.-]+\*?)*$", min_length=1, max_length=253)]
    """The pattern, for the whole name."""


KubernetesNames = (
    KubernetesName | KubernetesGlob | Annotated[tuple[KubernetesName | KubernetesGlob, ...], Field(min_length=1)]
)


class GitHubForm(Form):
    """A GitHub Actions job, by claims that a stranger cannot have: at least one of `repository_id` and `owner_id`."""

    model_config: ClassVar = {
        "json_schema_extra": {"anyOf": [{"required": ["repository_id"]}, {"required": ["owner_id"]}]}
    }

    repository_id: Ids | None = Field(default=None, examples=["81234567"])
    """Numeric id of the repository, which survives renames: `gh api repos/OWNER/REPO --jq .id`."""
    owner_id: Ids | None = None
    """Numeric id of the owner: `gh api users/OWNER --jq .id`."""
    ref: TextForm | None = Field(default=None, examples=["refs/heads/main"])
    """The ref that triggered the run."""
    workflow_ref: TextForm | None = Field(
        default=None, examples=["acme/app/.github/workflows/release.yml@refs/heads/main"]
    )
    """Path and ref of the workflow."""
    environment: TextForm | None = None
    """The deployment environment of the job."""
    events: TextForm | None = Field(default=None, examples=[["push", "workflow_dispatch"]])
    """Events that may trigger the run."""

    @model_validator(mode="after")
    def _is_pinned(self) -> GitHubForm:
        if self.repository_id is None and self.owner_id is None:
            raise ValueError("give repository_id or owner_id: names can be taken over by whoever registers them next")
        return self

    def expand(self) -> dict[str, Condition]:
        """Give the plain match, in claims of GitHub's tokens."""
        return _given(
            {
                "repository_id": _texts(self.repository_id),
                "repository_owner_id": _texts(self.owner_id),
                "ref": self.ref,
                "workflow_ref": self.workflow_ref,
                "environment": self.environment,
                "event_name": self.events,
            }
        )


class GitLabForm(Form):
    """A GitLab CI job: at least one of `project_id` and `namespace_id`."""

    model_config: ClassVar = {
        "json_schema_extra": {"anyOf": [{"required": ["project_id"]}, {"required": ["namespace_id"]}]}
    }

    project_id: Ids | None = None
    """Numeric id of the project. For a merge request from a fork it is the fork's."""
    namespace_id: Ids | None = None
    """Numeric id of the group or user."""
    ref: TextForm | None = None
    """Branch or tag, without `refs/`."""
    ref_protected: StrictBool | Literal["true", "false"] | None = None
    """The ref is protected; the tokens carry it as a string, and so it is compared."""
    environment: TextForm | None = None
    """The environment of the job."""

    @model_validator(mode="after")
    def _is_pinned(self) -> GitLabForm:
        if self.project_id is None and self.namespace_id is None:
            raise ValueError("give project_id or namespace_id: names can be taken over by whoever registers them next")
        return self

    def expand(self) -> dict[str, Condition]:
        """Give the plain match, in claims of GitLab's tokens."""
        protected = self.ref_protected
        return _given(
            {
                "project_id": _texts(self.project_id),
                "namespace_id": _texts(self.namespace_id),
                "ref": self.ref,
                "ref_protected": str(protected).lower() if protected is not None else None,
                "environment": self.environment,
            }
        )


class KubernetesForm(Form):
    """A Kubernetes workload by its service account; without `service_account`, every one of the namespace."""

    namespace: KubernetesNames = Field(examples=["prod", {"glob": "prod-*"}])
    """Name of the namespace, a list, or a glob whose `*` stays within the name."""
    service_account: KubernetesNames | None = None
    """Name of the service account, a list, or a glob."""

    def expand(self) -> dict[str, Condition]:
        """Give the plain match on `sub`, which is `system:serviceaccount:NAMESPACE:NAME`."""
        accounts = self.service_account if self.service_account is not None else KubernetesGlob(glob="*")
        pairs = product(_listed(self.namespace), _listed(accounts))
        return {"sub": tuple(_subject(namespace, account) for namespace, account in pairs)}


TypedForm = GitHubForm | GitLabForm | KubernetesForm


def _subject(namespace: str | KubernetesGlob, account: str | KubernetesGlob) -> str | GlobForm:
    names = [name if isinstance(name, str) else name.glob for name in (namespace, account)]
    subject = f"system:serviceaccount:{names[0]}:{names[1]}"
    return subject if isinstance(namespace, str) and isinstance(account, str) else GlobForm(glob=subject)


def _listed(names: str | KubernetesGlob | tuple[str | KubernetesGlob, ...]) -> tuple[str | KubernetesGlob, ...]:
    return names if isinstance(names, tuple) else (names,)


def _texts(ids: str | int | tuple[str | int, ...] | None) -> str | tuple[str, ...] | None:
    if ids is None:
        return None
    return tuple(str(item) for item in ids) if isinstance(ids, tuple) else str(ids)


def _given(conditions: Mapping[str, Condition | None]) -> dict[str, Condition]:
    return {claim: condition for claim, condition in conditions.items() if condition is not None}
