"""The load generator wrk: its script, and what it says at the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONNECTIONS: Final = 32

# The requests are made before the clock starts. What is printed at the end is one line, as JSON.
_SCRIPT: Final = """\
local paths = {paths}
local fields = {fields}
local requests = {{}}
math.randomseed(4711)
init = function(args)
  for index, path in ipairs(paths) do
    requests[index] = wrk.format("GET", path, fields)
  end
end
request = function()
  return requests[math.random(#requests)]
end
done = function(summary, latency, _)
  local e = summary.errors
  io.write(string.format('\\n{{"requests": %d, "microseconds": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"status": %d, "timeout": %d, "p50": %d, "p99": %d}}\\n', summary.requests, summary.duration, summary.bytes,
    e.connect, e.read, e.write, e.status, e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


class WrkFailed(Exception):
    """wrk did not run to its end. The message is what it printed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk did. `errors` counts requests by what went wrong; `status` among them are answers of 400 and above."""

    requests: int
    seconds: float
    received: int
    errors: Mapping[str, int]
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds

    @property
    def failure(self) -> str:
        """Say what went wrong, or nothing."""
        wrong = [f"{count} {name}" for name, count in self.errors.items() if count]
        if wrong:
            return f"wrk counted errors: {', '.join(wrong)}"
        return "" if self.requests else "wrk got no answer"


def script(paths: Sequence[str], headers: Mapping[str, str]) -> str:
    """Write the script that asks for one of these paths, each time at random."""
    listed = "{" + ", ".join(map(_quoted, paths)) + "}"
    fields = "{" + ", ".join(f"[{_quoted(name)}] = {_quoted(value)}" for name, value in headers.items()) + "}"
    return _SCRIPT.format(paths=listed, fields=fields)


def _quoted(text: str) -> str:
    assert text.isprintable()
    assert not set(text) & set('"\\')
    return f'"{text}"'


def read(output: str) -> Load:
    """Read what wrk printed with our script.

    Raises:
        WrkFailed: there is no such line in it.

    """
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if len(lines) != 1:
        raise WrkFailed(output[-2000:] or "wrk printed nothing")
    told = json.loads(lines[0])
    errors = {name: told[name] for name in ("connect", "read", "write", "status", "timeout")}
    return Load(
        requests=told["requests"],
        seconds=told["microseconds"] / 1e6,
        received=told["bytes"],
        errors=errors,
        p50_ms=told["p50"] / 1000,
        p99_ms=told["p99"] / 1000,
    )


async def run(prefix: Sequence[str], binary: str, url: str, path: Path, seconds: float) -> Load:
    """Run wrk with a script that is at `path`; `prefix` pins it to its core.

    Raises:
        WrkFailed: it ended otherwise than it should.

    """
    # wrk takes whole seconds only.
    options = ("-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--timeout", "20s", "-s", str(path), url)
    process = await asyncio.create_subprocess_exec(
        *prefix,
        binary,
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise WrkFailed(f"exit {process.returncode}: {output.decode(errors='replace')[-2000:]}")
    return read(output.decode(errors="replace"))
