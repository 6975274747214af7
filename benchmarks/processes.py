"""What the kernel says of a running program and its children: CPU time, memory. Linux only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Give a process and everything that it started, as far as it still runs."""
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text(encoding="ascii").split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Give the CPU time of a process and its children so far, in user and in system mode."""
    ticks = 0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def peak_bytes(pid: int) -> int:
    """Give the peak of the resident memory, summed over the processes of a family: at most a little more than they had at once."""
    return sum(_status(each, "VmHWM") for each in family(pid))


def resident_bytes(pid: int) -> int:
    """Give the resident memory of a family now."""
    return sum(_status(each, "VmRSS") for each in family(pid))


def forget_peak(pid: int) -> None:
    """Have the kernel begin a new peak, so that it tells of what comes next only."""
    for each in family(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5", encoding="ascii")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
