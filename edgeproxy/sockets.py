"""Unix sockets before a server binds them: what a crash has left is taken away, and what somebody listens on is left alone."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

MODE: Final = 0o660
"""Who may connect: the user and the group of the process, which the proxy in front has to share."""

UMASK: Final = 0o777 & ~MODE


def claim(binds: Iterable[str]) -> None:
    """Make room for the unix sockets among addresses.

    Raises:
        OSError: another process listens there, or something else has that name; the text names the path and says what to do.

    """
    for bind in binds:
        if bind.startswith("unix:"):
            _claim(bind.removeprefix("unix:"))


def _claim(path: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "something that is no socket has this name; move it away", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            # Nobody listens: its process was killed.
            Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens on this socket", path)
