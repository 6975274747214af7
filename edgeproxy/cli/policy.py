"""`edgeproxy policy`: looking at a policy document before it is in force. The decisions are those of `access`."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeproxy.cli.output import QUICK, Json, print_json
from edgeproxy.command import REFUSED, WRONG, fail

if TYPE_CHECKING:
    from edgeproxy.access.decisions import Caller
    from edgeproxy.access.explain import Explanation
    from edgeproxy.access.policy import Policy

app = typer.Typer(help="Check, explain and test a policy document.", no_args_is_help=True, **QUICK)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The policy document.")]


@app.command()
def lint(file: File, as_json: Json = False) -> None:
    """Find what is unsafe or dead; exit 1 if anything is."""
    from edgeproxy.access import lint as linter
    from edgeproxy.access.source import PolicyError

    text = _read(file)
    try:
        findings = linter.lint(text, source=str(file), now=time.time(), files=lambda name: _beside(file, name))
    except PolicyError as error:
        fail(error, WRONG)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            typer.echo(str(finding))
    raise typer.Exit(REFUSED if findings else 0)


@app.command()
def explain(
    file: File,
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="pull, push, delete or catalog.")],
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="A token, or - to read it. Its signature is not verified.")
    ] = None,
    claims: Annotated[str | None, typer.Option(metavar="JSON", help="Claims, or - to read them.")] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Issuer in the policy; default: the one of the claim iss, or the only one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the decision and why; exit 1 if it is a refusal. Without --token and --claims: for an anonymous caller."""
    from edgeproxy.access import explain as explaining
    from edgeproxy.oci.errors import RegistryError
    from edgeproxy.oci.names import Repository
    from edgeproxy.oci.operations import Access, Action

    if token is not None and claims is not None:
        fail("give --token or --claims, not both", WRONG)
    policy = _load(file)
    callers = _callers(policy, token, claims, issuer)
    if action not in list(Action):
        fail(f"{action!r} is no action; use one of {', '.join(Action)}", WRONG)
    try:
        access = Access(Repository.parse(repository), Action(action))
    except RegistryError as error:
        fail(error, WRONG)
    now = time.time()
    explanations = [(caller, explaining.explain(policy, caller, access, now)) for caller in callers]
    caller, explanation = min(explanations, key=lambda pair: _distance(pair[1]))
    if len(explanations) > 1 and caller is not None:
        typer.echo(f"(the claims have no iss; as if issuer {caller.issuer} had made them)", err=True)
    if as_json:
        print_json(explanation.as_json())
    else:
        typer.echo(str(explanation))
    raise typer.Exit(0 if explanation.allowed else REFUSED)


@app.command(name="test")
def run_tests(file: File, as_json: Json = False) -> None:
    """Run the expectations under `tests:`; exit 1 if one fails."""
    from edgeproxy.access import explain as explaining

    results = explaining.run_tests(_load(file), time.time())
    failed = [result for result in results if not result.passed]
    if as_json:
        print_json(
            [
                {"line": result.expectation.line, "passed": result.passed, **result.explanation.as_json()}
                for result in results
            ]
        )
    else:
        for result in failed:
            expected = "allow" if result.expectation.allowed else "deny"
            typer.echo(f"{file}:{result.expectation.line}: expected {expected}\n{result.explanation}")
        typer.echo(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    raise typer.Exit(REFUSED if failed else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of policy documents, for editors."""
    from edgeproxy.access.document import json_schema

    print_json(json_schema())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}", WRONG)


def _beside(file: Path, name: str) -> bytes:
    return (file.parent / name).read_bytes()


def _load(file: Path) -> Policy:
    from edgeproxy.access.policy import PolicyError, load_policy

    text = _read(file)
    try:
        return load_policy(
            text, source=str(file), loopback=True, now=time.time(), files=lambda name: _beside(file, name)
        )
    except PolicyError as error:
        fail(error, WRONG)


def _callers(policy: Policy, token: str | None, claims: str | None, issuer: str | None) -> list[Caller]:
    """Give the caller asked about; where claims do not say who made them, one for each issuer of the policy."""
    from edgeproxy.access.explain import caller_of

    if token is None and claims is None:
        return [None]
    shown = _payload(_text(token)) if token is not None else _parsed(_text(claims or ""), "--claims")
    if issuer is None:
        names = [name for name, known in policy.issuers.items() if shown.get("iss", known.url) == known.url]
        if not names:
            fail("no issuer of the policy fits the claim iss; name one with --issuer", WRONG)
        return [caller_of(name, shown) for name in names]
    if issuer not in policy.issuers:
        fail(f"the policy has no issuer {issuer!r}; it has: {', '.join(policy.issuers) or 'none'}", WRONG)
    return [caller_of(issuer, shown)]


def _distance(explanation: Explanation) -> int:
    """Order explanations: what is allowed, then what only a claim stands against, then the rest."""
    from edgeproxy.access.decisions import Denial

    decision = explanation.decision
    if not isinstance(decision, Denial):
        return 0
    near = decision.mismatch is not None and decision.mismatch.claim not in {"repository", "action"}
    return 1 if near else 2


def _text(value: str) -> str:
    return sys.stdin.read().strip() if value == "-" else value


def _payload(token: str) -> dict[str, Any]:
    import base64

    parts = token.split(".")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except (IndexError, ValueError):
        fail("--token is not a JSON Web Token", WRONG)
    return _parsed(payload, "the payload of --token")


def _parsed(text: str | bytes, what: str) -> dict[str, Any]:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        fail(f"{what} is not a JSON object", WRONG)
    return value
