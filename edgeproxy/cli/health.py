"""`edgeproxy health`: what a container's health check runs."""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgeproxy.cli.output import Config
from edgeproxy.command import REFUSED, WRONG, fail

if TYPE_CHECKING:
    import socket

    from edgeproxy.addresses import Listener

ANSWER_SECONDS: Final = 8.0
"""Longer than /readyz takes to give up on a store."""

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - whoever listens on every address listens on this one
_MAX_ANSWER_BYTES: Final = 64 * 1024


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(health)


def health(
    config: Config = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask /readyz: are policy, keys and store usable, too?")
    ] = False,
) -> None:
    """Ask the registry that runs beside this command how it is: exit 0 if it is well, 1 if not.

    It asks /healthz at EDGEPROXY_BIND; no other setting is needed.
    """
    from edgeproxy.config import DEFAULT_FILE, SettingsError, environment, listening

    file = config if config is not None or not DEFAULT_FILE.is_file() else DEFAULT_FILE
    try:
        where = listening(environment(), file)
    except SettingsError as error:
        fail(error, WRONG)
    try:
        status, answer = _ask(where, "/readyz" if ready else "/healthz")
    except OSError as error:
        fail(f"nothing answers at {where}: {error}; EDGEPROXY_BIND must be that of the running registry", REFUSED)
    if status != 200:
        fail(f"{where} answers {status}: {answer}", REFUSED)
    typer.echo(answer)


def _ask(where: Listener, path: str) -> tuple[int, str]:
    """Get a path; give the status and the beginning of the answer.

    Raises:
        OSError: no whole answer came.

    """
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(
        _ANY.get(where.host, where.host or "localhost"), where.port or None, timeout=ANSWER_SECONDS
    )
    try:
        if where.path:
            connection.sock = _unix_socket(where.path)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(_MAX_ANSWER_BYTES).decode(errors="replace")
    except HTTPException as error:
        raise OSError(f"what answers speaks no HTTP ({type(error).__name__})") from None
    finally:
        connection.close()


def _unix_socket(path: str) -> socket.socket:
    import socket

    made = socket.socket(socket.AF_UNIX)
    made.settimeout(ANSWER_SECONDS)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made
