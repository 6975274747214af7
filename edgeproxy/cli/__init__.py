"""The command line. One module for each group of commands; each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeproxy import __version__
from edgeproxy.cli import audit, bucket, health, keys, policy, serving, tokens
from edgeproxy.cli.output import QUICK

app = typer.Typer(
    name="edgeproxy",
    help="A container registry without passwords and without an egress bill.",
    no_args_is_help=True,
    **QUICK,
)
serving.register(app)
tokens.register(app)
bucket.register(app)
health.register(app)
app.add_typer(policy.app, name="policy")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeproxy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass
