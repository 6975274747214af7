"""Which lines of the log belong to which request."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from edgeproxy.logs import set_up_logs
from edgeproxy.web.exchanges import current_request
from tests.http.harness import call, digest_of, on_double

Form = Literal["json", "console"]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Set the log up as the program does, and give what was written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def written() -> list[str]:
        return capsys.readouterr().err.splitlines()

    def start(form: Form) -> Any:
        set_up_logs("info", form, current_request.get)
        return written

    yield start
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_a_line_that_a_request_writes_carries_its_id(log: Any) -> None:
    lines = log("json")
    async with on_double() as (house, found):
        found.double.faults.add("error", times=None, status=403, code="AccessDenied")
        target = f"/v2/acme/app/blobs/{digest_of(b'x')}"
        await call(house.app, "GET", target, [("x-request-id", "caller-1")], None)
        await call(house.app, "GET", target, [("x-request-id", "caller-2")], None)
    told = [json.loads(line) for line in lines()]
    assert [line.get("request_id") for line in told if "the store cannot answer" in line["message"]] == [
        "caller-1",
        "caller-2",
    ]


async def test_a_line_outside_of_requests_has_no_id(log: Any) -> None:
    lines = log("json")
    logging.getLogger("elsewhere").warning("nobody asked")
    (line,) = lines()
    assert "request_id" not in json.loads(line)


def test_people_read_the_id_first_and_once(log: Any) -> None:
    lines = log("console")
    token = current_request.set("r-7")
    logging.getLogger("elsewhere").warning("something")
    logging.getLogger("elsewhere").error("%s: something with its id", "r-7")
    current_request.reset(token)
    logging.getLogger("elsewhere").warning("something else")
    assert [line.split(maxsplit=2)[2] for line in lines()] == [
        "r-7: something",
        "r-7: something with its id",
        "something else",
    ]
