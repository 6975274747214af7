"""`edgeproxy dev-token`: a token of the issuer that `edgeproxy dev` runs."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeproxy.command import WRONG, fail


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("dev-token")(dev_token)


def dev_token(
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A claim: JSON if the value is a number, true, false, a list, an object or a quoted text; else plain text.",
        ),
    ] = None,
    subject: Annotated[str, typer.Option(metavar="S", help="The claim sub.")] = "developer",
    audience: Annotated[
        str | None, typer.Option(metavar="A", help="The claim aud; default: the one that the policy wants.")
    ] = None,
    seconds: Annotated[int, typer.Option(metavar="N", help="Life of the token; below 0 it has expired.")] = 3600,
    data: Annotated[Path, typer.Option(metavar="DIR", help="The data folder of 'edgeproxy dev'.")] = Path(".edgeproxy"),
) -> None:
    """Print a token of the issuer that 'edgeproxy dev' runs.

    The registry need not run. 'edgeproxy dev-token | docker login -u oidc --password-stdin localhost:5000' signs in with it.
    """
    import secrets
    import time
    from dataclasses import replace

    from edgeproxy import config, dev, dev_issuer

    claims = _claims(claim or [])
    if not (data / dev.ISSUER_KEYS_FOLDER).is_dir():
        fail(f"{data} is no data folder of 'edgeproxy dev': run that first, or name its folder with --data DIR", WRONG)
    try:
        settings = config.load(config.environment(), None, defaults=dev.defaults(data, dev.DEFAULT_PORT))
        issuer, keys = dev.issuer_of(settings), dev.issuer_keys(data)
    except (config.SettingsError, dev.DevError) as error:
        fail(error, WRONG)
    if audience is not None:
        issuer = replace(issuer, audience=audience)
    token = dev_issuer.mint(
        issuer, keys, claims, subject=subject, seconds=seconds, now=time.time(), jti=secrets.token_hex(8)
    )
    typer.echo(token)


def _claims(given: list[str]) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            fail(f"--claim {text!r} is not NAME=VALUE", WRONG)
        if name in claims:
            fail(f'--claim {name} is given twice; a list is written --claim \'{name}=["one", "two"]\'', WRONG)
        claims[name] = _value(value)
    return claims


def _value(text: str) -> Any:
    import orjson

    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return text if value is None else value
