"""Counts the user-mode instructions of each proxy per unit of work, under callgrind: `python bench/micro.py`.

Instructions hardly vary from run to run, however busy the machine is, so a change of a few per cent in the cost of
a hot path shows. The kernel's part is not in them: see syscalls.py for that. `perf stat -e instructions:u` would do the
same faster but virtual machines often have no counters.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loadgen
import measure
import proxies

RUNS = (("exchange", "ping", 500, 2500), ("connection", "churn", 100, 500))
"""What is counted, load.c's word for it, and how many in the short and in the long run."""
BULK_SECONDS = 3


class Callgrind:
    """Counts what the process tree of a proxy under valgrind executes."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._pids = measure.tree(pid)
        self._directory = directory

    def taken(self) -> int:
        """Return the instructions since the last call."""
        for old in self._directory.glob("callgrind.*"):
            old.unlink()
        for pid in self._pids:
            done = subprocess.run(["vgdb", f"--pid={pid}", "dump"], capture_output=True, text=True, timeout=60)
            if done.returncode:
                raise loadgen.LoadError(f"vgdb: {done.stderr.strip()[-300:]}")
        texts = [file.read_text() for file in self._directory.glob("callgrind.*")]
        return sum(int(n) for text in texts for n in re.findall(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)[:1])


def count(name: str, servers: loadgen.Servers) -> dict[str, float]:
    """Return the instructions of proxy `name` per unit; raises LoadError."""
    result = {}
    with tempfile.TemporaryDirectory(prefix="lbproxy-bench-") as made:
        directory = Path(made)
        prefix = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={directory}/callgrind.%p"]
        with proxies.running(name, servers, prefix, patience=120) as proxy:
            assert proxy.pid
            loadgen.run(("churn", "-n", "50", "-t", "60"), proxy.plain, timeout=120)
            loadgen.run(("ping", "-n", "200", "-t", "60"), proxy.plain, timeout=120)
            counter = Callgrind(proxy.pid, directory)
            for unit, workload, short, long in RUNS:
                taken = []
                for number in (short, long):
                    counter.taken()
                    loadgen.run((workload, "-n", str(number), "-t", "60"), proxy.plain, timeout=120)
                    time.sleep(0.3)  # for the last close to go through
                    taken.append(counter.taken())
                result[unit] = (taken[1] - taken[0]) / (long - short)
            for unit, workload in (("MiB up", "up"), ("MiB down", "down")):
                counter.taken()
                got = loadgen.run((workload, "-t", str(BULK_SECONDS)), proxy.plain)
                result[unit] = counter.taken() / (got["bytes"] / 2**20)
    return result


def main() -> int:
    """Count and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--proxies", default="nginx,lbproxy", help="comma-separated (default: %(default)s)")
    names = parser.parse_args().proxies.split(",")
    if not shutil.which("valgrind"):
        print("bench: valgrind is not installed", file=sys.stderr)
        return 1
    try:
        loadgen.build()
        with loadgen.servers() as servers:
            for number, name in enumerate(proxies.versions(names)):
                counts = count(name, servers)
                if not number:
                    print(f"{'instructions per':18}" + "".join(f"{unit:>12}" for unit in counts))
                print(f"{name:18}" + "".join(f"{value:12,.0f}" for value in counts.values()), flush=True)
    except (loadgen.LoadError, subprocess.TimeoutExpired) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
