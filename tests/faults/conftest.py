"""What the fault rings share: how much trouble, and the seed that repeats it."""

from __future__ import annotations

import os
from random import Random, SystemRandom

import pytest


@pytest.fixture
def rounds() -> int:
    """How many rounds of trouble: TEST_ROUNDS, or a few."""
    return int(os.environ.get("TEST_ROUNDS", "3"))


@pytest.fixture
def chance() -> Random:
    """Give the source of all chance in a test; TEST_SEED repeats a run."""
    seed = int(os.environ.get("TEST_SEED") or SystemRandom().randrange(2**32))
    print(f"seed {seed} (TEST_SEED={seed} repeats what was chosen)")
    return Random(seed)
