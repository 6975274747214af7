"""What an author may write for the value of a claim, as the document's models see it; `matching` compiles it. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag

from edgeproxy.access.matching import check_regex


class Form(BaseModel):
    """A mapping of the document: unknown fields are refused, and the text of an error never repeats the input."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


Text = Annotated[str, Field(strict=True, min_length=1, max_length=1000)]
Scalar = Text | StrictBool | StrictInt | Annotated[float, Field(strict=True)]
"""Compared exactly and by type: a string with a string, a number with a number, a boolean with a boolean."""


class GlobForm(Form):
    """`{glob: "refs/tags/v*"}`: `*` is any run of characters other than `/` and `:`, `**` any run at all."""

    glob: Text
    """The pattern, for the whole value."""


class RegexForm(Form):
    """`{regex: "refs/heads/(main|release)"}`: RE2 syntax, always matched against the whole string."""

    regex: Annotated[Text, AfterValidator(check_regex)]
    """The pattern, for the whole value."""


def _form(value: object) -> Literal["glob", "regex", "list", "scalar"] | None:
    if isinstance(value, GlobForm) or (isinstance(value, dict) and "glob" in value):
        return "glob"
    if isinstance(value, RegexForm) or (isinstance(value, dict) and "regex" in value):
        return "regex"
    if isinstance(value, list | tuple):
        return "list"
    return "scalar" if isinstance(value, str | bool | int | float) else None


_CONDITION: Final = Discriminator(
    _form,
    custom_error_type="condition",
    custom_error_message="expected a string, number or boolean, a list of them, {glob: ...} or {regex: ...}",
)
Single = Annotated[
    Annotated[Scalar, Tag("scalar")] | Annotated[GlobForm, Tag("glob")] | Annotated[RegexForm, Tag("regex")], _CONDITION
]
Condition = Annotated[
    Annotated[Scalar, Tag("scalar")]
    | Annotated[GlobForm, Tag("glob")]
    | Annotated[RegexForm, Tag("regex")]
    | Annotated[tuple[Single, ...], Field(min_length=1, max_length=1000), Tag("list")],
    _CONDITION,
]
"""One claim's condition: a scalar is exact, a list any-of its elements."""

ClaimName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
Match = Annotated[dict[ClaimName, Condition], Field(min_length=1, max_length=50)]
"""Claims by their exact top-level name in the token; all of them must match."""
