"""Makes `day.json`, the sample that ships with the project: a day of a small registry in the format of the IBM traces, all of it made up.

python -m benchmarks.egress.sample.make
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.egress.synthetic import Parameters, lines

SAMPLE: Final = Path(__file__).with_name("day.json")
PARAMETERS: Final = Parameters(
    seed=11, repositories=10, tags=2, layers=6, bases=4, clients=6, events=80, pushes=0.05, shrink=8, hours=24
)


def main() -> None:
    """Write it."""
    with SAMPLE.open("wb") as file:
        file.writelines(lines(PARAMETERS))


if __name__ == "__main__":
    main()
