"""The double as a process: `python -m tests.r2 --port N --bucket B [--control-port M]`, for tests that start programs.

Prints one line of JSON when it serves: `endpoint`, `control`, `bucket`, `access_key`, `secret_key`. The control endpoint: `GET /counters`,
`DELETE /counters`, `POST /faults` (an object, or a list of them, as `tests.r2.faults.Fault` has its fields), `GET /faults`, `DELETE /faults`,
`GET /keys`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Any

from tests.r2.app import ACCESS_KEY, SECRET_KEY, Double
from tests.r2.running import running_double, serving


class Control:
    """Counters and faults of a double over HTTP, for loopback only."""

    def __init__(self, double: Double) -> None:
        self._double = double

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            status, answer = 200, self._answer(scope["method"], scope["path"], body)
        except (ValueError, TypeError, KeyError) as error:
            status, answer = 400, {"error": repr(error)}
        content = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, method: str, path: str, body: bytes) -> Any:
        double = self._double
        match method, path:
            case "GET", "/counters":
                return double.counters.as_json()
            case "DELETE", "/counters":
                double.counters.reset()
            case "GET", "/faults":
                return [{k: v for k, v in vars(fault).items() if k != "struck"} for fault in double.faults.plan]
            case "POST", "/faults":
                faults = json.loads(body)
                for fault in faults if isinstance(faults, list) else [faults]:
                    double.faults.add(fault.pop("effect"), **fault)
            case "DELETE", "/faults":
                double.faults.clear()
            case "GET", "/keys":
                return {key: stored.size for key, stored in sorted(double.bucket.objects.items())}
            case _:
                raise ValueError(f"no {method} {path} here")
        return {}


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    options = {"bucket": arguments.bucket, "seed": arguments.seed}
    options["write_interval"] = None if arguments.no_write_limit else arguments.write_interval
    async with (
        running_double(port=arguments.port, **options) as running,
        serving(Control(running.double), arguments.control_port) as (control, _),
    ):
        about = {
            "endpoint": running.endpoint,
            "control": control,
            "bucket": arguments.bucket,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        print(json.dumps(about), flush=True)
        await stop.wait()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.r2", description="A strict double of Cloudflare R2.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--bucket", default="registry")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-interval", type=float, default=1.0)
    parser.add_argument("--no-write-limit", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
