"""How a command begins and ends, without what parses a command line: settings, or a reason and an exit code; and the service itself.

Exit codes: 0 done, 1 refused or found something, 2 wrong usage or settings, 130 interrupted.
"""

# ruff: noqa: PLC0415 - imports are made when a command runs, so that --help is quick

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from edgeproxy.serving import Site
    from edgeproxy.settings import Settings

REFUSED: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130


def fail(message: object, code: int) -> NoReturn:
    """Print what is wrong on standard error and leave."""
    for line in str(message).splitlines():
        sys.stderr.write(f"edgeproxy: {line}\n")
    raise SystemExit(code)


def settings(
    file: Path | None, *, defaults: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> Settings:
    """Load the settings, or tell every problem and leave. `options` are environment variables that an option stands for."""
    from edgeproxy import config

    if file is None and config.DEFAULT_FILE.is_file():
        file = config.DEFAULT_FILE
    try:
        return config.load({**config.environment(), **(options or {})}, file, defaults=defaults)
    except config.SettingsError as error:
        fail(error, WRONG)


def run(loaded: Settings, beside: Site | None = None) -> NoReturn:
    """Serve until told to stop, `beside` too, and leave."""
    from edgeproxy.app import StartError, serve
    from edgeproxy.storage import StoreError

    try:
        code = serve(loaded, beside)
    except StartError as error:
        fail(error, WRONG)
    except StoreError as error:
        fail(f"EDGEPROXY_STORE: {error}", REFUSED)
    except OSError as error:
        fail(
            f"cannot listen or write: {error}; look at EDGEPROXY_BIND, EDGEPROXY_STORE_BIND and EDGEPROXY_AUDIT",
            REFUSED,
        )
    raise SystemExit(code)


def main() -> None:
    """Run the command line of this process.

    `edgeproxy serve` has nothing to parse and runs for months: it does not keep 2 MiB of what parses.
    """
    if sys.argv[1:] == ["serve"]:
        try:
            run(settings(None))
        except KeyboardInterrupt:
            # Before there is a loop to be told.
            raise SystemExit(INTERRUPTED) from None
    from edgeproxy.cli import app

    app(prog_name="edgeproxy")
