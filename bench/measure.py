"""What /proc says of a process tree and of the machine: CPU seconds and memory; and on which CPUs things run."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """CPU seconds since the start, in user mode and in the kernel."""

    user: float
    sys: float

    def since(self, earlier: Cpu) -> Cpu:
        """Return what was used after `earlier`."""
        return Cpu(self.user - earlier.user, self.sys - earlier.sys)


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants that are alive, parents first."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids.extend(int(child) for child in children.read_text().split())
            except OSError:  # gone meanwhile
                continue
    return pids


def cpu(pid: int | None) -> Cpu:
    """Return the CPU used by the tree of `pid`, all threads and ended children; nothing when there is no process."""
    user = kernel = 0
    for one in tree(pid) if pid else ():
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user += int(fields[11]) + int(fields[13])
        kernel += int(fields[12]) + int(fields[14])
    return Cpu(user / _TICK, kernel / _TICK)


def pss(pid: int) -> int:
    """Return the bytes of memory of the tree of `pid`; a page shared by n processes counts as one nth."""
    total = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def machine() -> float:
    """Return the CPU seconds that the whole machine has been busy: user, nice, system, irq and softirq."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6)) / _TICK


def most_fds() -> int:
    """Raise this process's limit of open files as far as it may go, for the children to inherit; return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this process and all its descendants on one CPU while the block lasts.

    A lone exchange leaves CPUs idle between its steps. Waking one takes 10 to 80 us in a virtual machine, by luck of
    placement, which is many times what a proxy does; on one CPU what remains is the work.
    """
    allowed = os.sched_getaffinity(0)
    _pin({max(allowed)})
    try:
        yield
    finally:
        _pin(allowed)


def _pin(cpus: set[int]) -> None:
    for pid in tree(os.getpid()):
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            try:
                os.sched_setaffinity(int(thread.name), cpus)
            except OSError:  # gone meanwhile
                continue
