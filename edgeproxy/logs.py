"""The operator's log on standard error: one line an event, for people or as JSON. Nothing secret is ever handed to it."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import orjson

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Libraries that tell the operator what only their developers want to know, some of it with headers or URLs.
_QUIET: Final = ("aiobotocore", "botocore", "aiohttp", "asyncio", "hypercorn.access")


class JSONLines(logging.Formatter):
    """Prints records as JSON, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Print a record: time (seconds since the epoch), level, logger, message, and the traceback if there is one."""
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def set_up_logs(level: Literal["debug", "info", "warning", "error"], form: Literal["json", "console"]) -> None:
    """Send the log of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JSONLines() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It says where it listens in words of its own; `app` says it once in ours.
    logging.getLogger("hypercorn.error").setLevel(logging.WARNING)
