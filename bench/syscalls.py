"""Counts the system calls of each proxy per connection and per exchange, with strace: `python bench/syscalls.py`.

A connection is connect, one exchange of 64 bytes, close; an exchange is 64 bytes there and back on an open
connection, one at a time. Counts are differences of a long and a short run, so that what a proxy does now and then,
and the setting up of the exchange's connection, cancel out.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import loadgen
import measure
import proxies

_CALL = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)
RUNS = (("connection", "churn", 100, 300), ("exchange", "ping", 200, 1200))
"""What is counted, load.c's word for it, and how many in the short and in the long run."""
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
"""A busy proxy waits once for many, so these depend on the load; `without waiting` leaves them out."""


def trace(pid: int, workload: str, count: int, ports: Sequence[int]) -> Counter[str]:
    """Run `count` units of `workload` while strace counts the calls of the tree of `pid`."""
    pids = measure.tree(pid)
    with tempfile.TemporaryDirectory(prefix="lbproxy-bench-") as name:
        directory = Path(name)
        log = directory / "calls"
        with loadgen.child(["strace", "-f", "-qq", "-o", log, *(f"-p{p}" for p in pids)], directory) as tracer:
            _wait_attached(pids, tracer, directory)
            loadgen.run((workload, "-n", str(count), "-t", "60"), ports)
            time.sleep(0.2)  # for the last close to go through
        return Counter(_CALL.findall(log.read_text()))


def _wait_attached(pids: Sequence[int], tracer: subprocess.Popen[str], directory: Path) -> None:
    for _ in range(500):
        if not any("TracerPid:\t0\n" in Path(f"/proc/{p}/status").read_text() for p in pids):
            return
        if tracer.poll() is not None:
            break
        time.sleep(0.01)
    raise loadgen.LoadError(f"strace cannot attach: {(directory / 'stderr').read_text().strip()}")


def table(title: str, counts: dict[str, Counter[str]], units: int) -> str:
    """Return calls per unit: a row a system call, the frequent ones first, a column a proxy, with the sums."""
    total = sum(counts.values(), Counter())
    calls = [call for call, _ in total.most_common() if any(c[call] / units >= 0.005 for c in counts.values())]
    lines = [f"{'per ' + title:18}" + "".join(f"{name:>10}" for name in counts)]
    for call in calls:
        cells = (f"{c[call] / units:10.2f}" if c[call] / units >= 0.005 else f"{'':10}" for c in counts.values())
        lines.append(f"{call:18}" + "".join(cells).rstrip())
    work = {name: c.total() - sum(c[wait] for wait in WAITS) for name, c in counts.items()}
    lines.append(f"{'together':18}" + "".join(f"{c.total() / units:10.2f}" for c in counts.values()))
    lines.append(f"{'without waiting':18}" + "".join(f"{n / units:10.2f}" for n in work.values()))
    return "\n".join(lines)


def main() -> int:
    """Count and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--proxies", default="nginx,haproxy,lbproxy", help="comma-separated (default: %(default)s)")
    names = parser.parse_args().proxies.split(",")
    if not shutil.which("strace"):
        print("bench: strace is not installed", file=sys.stderr)
        return 1
    counts: dict[str, dict[str, Counter[str]]] = {title: {} for title, *_ in RUNS}
    try:
        loadgen.build()
        with loadgen.servers() as servers:
            for name in proxies.versions(names):
                with proxies.running(name, servers) as proxy:
                    for title, workload, short, long in RUNS:
                        assert proxy.pid
                        counts[title][name] = trace(proxy.pid, workload, long, proxy.plain)
                        counts[title][name].subtract(trace(proxy.pid, workload, short, proxy.plain))
    except loadgen.LoadError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print("\n\n".join(table(title, counts[title], long - short) for title, _, short, long in RUNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
