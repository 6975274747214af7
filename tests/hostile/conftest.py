"""One registry for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hostile.harness import World, world_in


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Give a registry with verified tokens, an image in three repositories and counters that stand at zero."""
    async with world_in(tmp_path) as made:
        yield made
