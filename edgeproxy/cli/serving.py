"""`edgeproxy dev` and `edgeproxy serve`."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from edgeproxy.cli.output import Config
from edgeproxy.command import WRONG, fail, run, settings

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter


class _ServeCommand(TyperCommand):
    """`serve`, whose help ends with all settings: read when it is asked for."""

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Print every setting."""
        from edgeproxy.config import describe

        _ = ctx
        with formatter.section("Settings (environment, or in lower case without EDGEPROXY_ in the file)"):
            formatter.write_dl([(name, _told(meaning, default)) for name, meaning, default in describe()])
            formatter.write_dl(
                [("AWS_...", "credentials of the store: the chain of the AWS SDK, refreshed while running")]
            )


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(dev)
    app.command(cls=_ServeCommand)(serve)


def dev(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is kept.")] = Path(".edgeproxy"),
    port: Annotated[
        int, typer.Option(metavar="N", min=1, max=65533, help="Port of the registry; the store's is the next.")
    ] = 5000,
) -> None:
    """Run a registry for this machine alone."""
    from edgeproxy import config
    from edgeproxy import dev as development

    try:
        loaded = config.load(config.environment(), None, defaults=development.defaults(data, port))
    except config.SettingsError as error:
        fail(error, WRONG)
    if not loaded.loopback:
        fail(
            "dev is for this machine alone: unset EDGEPROXY_BIND and EDGEPROXY_PUBLIC_URL, or use 'edgeproxy serve'",
            WRONG,
        )
    try:
        development.prepare(data, loaded.token_service, development.issuer_port(loaded))
        typer.echo(development.greeting(loaded, data))
        beside = development.issuer_site(loaded, data)
    except development.DevError as error:
        fail(error, WRONG)
    run(loaded, beside)


def serve(
    config: Config = None,
    server: Annotated[str | None, typer.Option(metavar="NAME", help="EDGEPROXY_SERVER: hypercorn or granian.")] = None,
) -> None:
    """Run the registry, from settings."""
    run(settings(config, options={"EDGEPROXY_SERVER": server} if server else None))


def _told(meaning: str, default: str) -> str:
    return f"{meaning} [required]" if default == "required" else f"{meaning} [default: {default}]"
