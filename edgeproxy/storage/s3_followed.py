"""A credential that follows the files it came from, so that a changed profile is in use with no restart.

The SDK renews what has an end (roles, web identity, a `credential_process` that says when), but reads what has none once and for all: the
keys of a profile, and a process that names no end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

FOLLOW_SECONDS: Final = 5.0
"""How often the files are looked at, at most."""

_FIXED: Final = frozenset({"env", "explicit"})
"""Where a credential cannot change while a process lives."""

_log = logging.getLogger(__name__)


async def follow_files(session: Any, clock: Callable[[], float]) -> None:
    """Have the credential of a session (an `AioSession`) follow the SDK's two files, if it could come from them.

    `clock` gives seconds since the epoch. That there is no credential is for its first use to say.
    """
    try:
        found = await session.get_credentials()
    except BotoCoreError:
        return
    if found is not None and found.method not in _FIXED:
        session._credentials = _Followed(session, found, clock)  # noqa: SLF001 - the setter takes plain keys alone


class _Followed(AioCredentials):  # type: ignore[misc]  # the SDK ships no types
    """Gives what the chain finds in the files as they are now."""

    def __init__(self, session: Any, found: Any, clock: Callable[[], float]) -> None:
        super().__init__("", "", method=found.method)
        self._profile = session.profile
        self._files = [
            os.path.expanduser(session.get_config_variable(name))  # noqa: PTH111 - as the SDK writes them
            for name in ("credentials_file", "config_file")
        ]
        self._found = found
        self._clock = clock
        self._looked = clock()
        self._mark = self._state()
        self._lock = asyncio.Lock()

    @property
    def _expiry_time(self) -> Any:
        return getattr(self._found, "_expiry_time", None)

    async def get_frozen_credentials(self) -> Any:
        """Give the credential of now; the name is the SDK's."""
        if not 0 <= self._clock() - self._looked < FOLLOW_SECONDS:
            async with self._lock:
                await self._follow()
        return await self._found.get_frozen_credentials()

    async def _follow(self) -> None:
        self._looked = self._clock()
        mark = self._state()
        if mark == self._mark:
            return
        try:
            # A new session, as one reads the files once.
            found = await AioSession(profile=self._profile).get_credentials()
        except (BotoCoreError, OSError, ValueError) as error:
            # Half a file, perhaps: it is read again in a moment.
            _log.error(
                "the changed credentials of the store are not usable, the old ones stay: %s", type(error).__name__
            )
            return
        if found is None:
            _log.error("the changed files hold no credentials for the store, the old ones stay")
            return
        self._found, self._mark = found, mark
        _log.info("the credentials of the store were read again")

    def _state(self) -> tuple[object, ...]:
        return tuple(_mark(file) for file in self._files)


def _mark(file: str) -> tuple[int, ...]:
    try:
        info = os.stat(file)  # noqa: PTH116
    except OSError:
        return ()
    return (info.st_ino, info.st_mtime_ns, info.st_size)
