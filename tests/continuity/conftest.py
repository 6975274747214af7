"""What this ring shares: the seed that repeats a run."""

from __future__ import annotations

import os
from random import Random, SystemRandom

import pytest


@pytest.fixture
def chance() -> Random:
    """Give the source of all chance in a test; TEST_SEED repeats what was chosen."""
    seed = int(os.environ.get("TEST_SEED") or SystemRandom().randrange(2**32))
    print(f"seed {seed} (TEST_SEED={seed} repeats what was chosen)")
    return Random(seed)
