"""A running registry for each client, and the image that it pushes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.images import Image, make_image
from tests.programs import program
from tests.running import STORES, Observed, observed, temporary_folder

_SEEDS = itertools.count(1)


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Observed]:
    """Give a registry behind counting forwarders, over each kind of store."""
    async with observed(request.param) as running:
        yield running


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    """Give a folder with a name short enough for sockets."""
    async with temporary_folder() as made:
        yield made


@pytest.fixture(scope="session")
def busybox() -> Path:
    """Give the one program that the image holds, statically linked."""
    return Path(program("busybox"))


@pytest.fixture
def image(busybox: Path) -> Image:
    """Give an image that no other test has pushed."""
    return make_image(busybox, next(_SEEDS))
