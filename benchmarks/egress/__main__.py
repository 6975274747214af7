"""`python -m benchmarks.egress`."""

from __future__ import annotations

import sys

from benchmarks.egress.cli import main

sys.exit(main())
