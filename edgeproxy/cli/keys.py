"""`edgeproxy keys`: our own signing keys."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edgeproxy.cli.output import QUICK, Json, print_columns, print_json
from edgeproxy.command import REFUSED, WRONG, fail

app = typer.Typer(help="Make, list and retire signing keys. Two may overlap.", no_args_is_help=True, **QUICK)

Keys = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="Directory of the keys; default: EDGEPROXY_SIGNING_KEYS.", show_default=False),
]


@app.command()
def new(path: Keys = None, as_json: Json = False) -> None:
    """Make a key; it signs once it is three minutes old."""
    from edgeproxy.access import signing

    try:
        kid = signing.new_key(_path(path), time.time())
    except signing.SigningKeyError as error:
        fail(error, REFUSED)
    if as_json:
        print_json({"kid": kid})
    else:
        typer.echo(kid)


@app.command(name="list")
def list_(path: Keys = None, as_json: Json = False) -> None:
    """List the keys, newest first."""
    from edgeproxy.access import signing

    try:
        found = signing.list_keys(_path(path), time.time())
    except signing.SigningKeyError as error:
        fail(error, REFUSED)
    if as_json:
        print_json([{"kid": key.kid, "since": key.since, "signs": key.signs} for key in found])
        return
    rows = [
        (key.kid, f"{datetime.fromtimestamp(key.since, UTC):%Y-%m-%d %H:%M}Z", "signs" if key.signs else "")
        for key in found
    ]
    print_columns([("KID", "SINCE", ""), *rows])


@app.command()
def retire(kid: Annotated[str, typer.Argument(metavar="KID")], path: Keys = None) -> None:
    """Remove a key: every token that it signed becomes invalid."""
    from edgeproxy.access import signing

    try:
        signing.retire(_path(path), kid)
    except signing.SigningKeyError as error:
        fail(error, REFUSED)


def _path(path: Path | None) -> Path:
    from edgeproxy import config

    if path is not None:
        return path
    default = config.environment().get("EDGEPROXY_SIGNING_KEYS")
    if not default:
        fail("name the directory of the keys, or set EDGEPROXY_SIGNING_KEYS", WRONG)
    return Path(default)
