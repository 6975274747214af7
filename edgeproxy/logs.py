"""The operator's log on standard error: one line an event, for people or as JSON. Nothing secret is ever handed to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Final, Literal

import orjson

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Libraries that tell the operator what only their developers want to know, some of it with headers or URLs.
_QUIET: Final = ("aiobotocore", "botocore", "aiohttp", "asyncio", "hypercorn.access")


class ConsoleLines(logging.Formatter):
    """Prints records for people; those of a request begin with its id."""

    def __init__(self, request_id: Callable[[], str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._request_id = request_id

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Print a record in one line: time, level, request, message."""
        request = self._request_id()
        if request and not record.message.startswith(request):
            record.message = f"{request}: {record.message}"
        return super().formatMessage(record)


class JSONLines(logging.Formatter):
    """Prints records as JSON, one a line."""

    def __init__(self, request_id: Callable[[], str] = str) -> None:
        super().__init__()
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        """Print a record: time (seconds since the epoch), level, logger, message; request and traceback if there are."""
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = self._request_id()
        if request:
            line["request_id"] = request
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def set_up_logs(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["json", "console"],
    request_id: Callable[[], str] = str,
) -> None:
    """Send the log of this process to standard error. `request_id` tells which request runs where a line is written, "" if none does."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines(request_id) if form == "json" else ConsoleLines(request_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It says where it listens in words of its own; `app` says it once in ours.
    logging.getLogger("hypercorn.error").setLevel(logging.WARNING)
