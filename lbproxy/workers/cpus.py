"""How many processes `workers: auto` is: one for each CPU that this one may use."""

from __future__ import annotations

import math
import os
from typing import Final, Literal

_CGROUPS: Final = "/sys/fs/cgroup"


def count(workers: int | Literal["auto"]) -> int:
    """Return the number of processes that a configuration asks for."""
    if workers != "auto":
        return workers
    return max(1, min(len(os.sched_getaffinity(0)), quota(_own_group(), _CGROUPS)))


def quota(group: str, root: str) -> int:
    """Return how many CPUs the cgroup (v2) `group` and those it stands in may use, rounded up; many where none says."""
    least = 256
    parts = [part for part in group.split("/") if part]
    for depth in range(len(parts) + 1):
        try:
            with open(os.path.join(root, *parts[:depth], "cpu.max")) as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            least = min(least, math.ceil(int(quota) / int(period)))
    return max(1, least)


def _own_group() -> str:
    try:
        with open("/proc/self/cgroup") as file:
            return next((line[3:].strip() for line in file if line.startswith("0::")), "")
    except OSError:
        return ""
