"""What is done again and again beside the requests, for as long as the process serves.

Nobody waits for such a task, so an error that ended it would be seen by nobody: a narrowed policy would never come into force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def every(
    seconds: float,
    step: Callable[[], Awaitable[object]],
    surprised: Callable[[Exception], None],
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Take a step every so many seconds, for ever; `surprised` is told of an error that the step did not foresee."""
    while True:
        await sleep(seconds)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the boundary of a step: `surprised` says it, and the next one may do better
            surprised(error)
