"""What a process takes of the machine, as proc_pid_stat(5) and its neighbours tell it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from functools import reduce
from typing import Final

from lbproxy.status.snapshot import Usage

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def usage() -> Usage:
    """Return what this process takes."""
    # Behind the name, which is in brackets and may hold anything, from field 3 on
    with open("/proc/self/stat") as file:
        stat = file.read().rpartition(")")[2].split()
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) / _TICK
    return Usage(
        cpu_seconds=(int(stat[11]) + int(stat[12])) / _TICK,
        virtual_bytes=int(stat[20]),
        resident_bytes=int(stat[21]) * _PAGE,
        open_fds=len(os.listdir("/proc/self/fd")) - 1,  # but for the one that is open to count them
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started=time.time() - age,
    )


def together(processes: Iterable[Usage]) -> Usage:
    """Return what several processes take, as one that has begun with the first of them."""
    return reduce(_added, processes)


def _added(one: Usage, other: Usage) -> Usage:
    return Usage(
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        virtual_bytes=one.virtual_bytes + other.virtual_bytes,
        resident_bytes=one.resident_bytes + other.resident_bytes,
        open_fds=one.open_fds + other.open_fds,
        max_fds=one.max_fds + other.max_fds,
        started=min(one.started, other.started),
    )
