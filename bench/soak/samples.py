"""What the targets use, every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from bench.soak.targets import Target

_SIZES: Final = {"rss": "Rss", "pss": "Pss", "anonymous": "Anonymous"}
_METRICS: Final = {
    "lag": "lbproxy_loop_lag_seconds", "kept": "lbproxy_kept_connections",
    "connections": "lbproxy_connections", "connecting": "lbproxy_connections_connecting",
    "accepted": "lbproxy_connections_total", "task_failures": "lbproxy_task_failures_total",
    "rejected": "lbproxy_connections_rejected_total", "connect_failures": "lbproxy_server_connect_failures_total",
}  # fmt: skip
Sample = dict[str, Any]


def process(pid: int) -> Sample:
    """Return what a process uses: sizes in KiB, descriptors, threads, seconds of CPU and of life. Raises OSError."""
    found: Sample = {"pid": pid}
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    for name, key in _SIZES.items():
        match = re.search(rf"^{key}: +(\d+) kB", text, re.MULTILINE)
        found[name] = int(match[1]) if match else 0
    kinds = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            kinds.append(str(fd.readlink()).partition(":")[0])
    found["fds"], found["pipes"], found["sockets"] = len(kinds), kinds.count("pipe"), kinds.count("socket")
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    found["threads"], found["cpu"] = int(stat[17]), (int(stat[11]) + int(stat[12])) / tick
    found["age"] = round(float(Path("/proc/uptime").read_text().split()[0]) - int(stat[19]) / tick, 1)
    return found


def scraped(text: str) -> Sample:
    """Return the sums of the metrics that are of interest."""
    found: Sample = {}
    for name, metric in _METRICS.items():
        values = re.findall(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        found[name] = round(sum(map(float, values)), 6)
    return found


def sample(target: Target) -> Sample:
    """Return one of a target, with nothing in it from whoever is just going or coming."""
    found: Sample = {"at": time.time(), "workers": target.workers, "processes": []}
    for pid in target.pids():
        with contextlib.suppress(OSError):
            found["processes"].append(process(pid))
    for name in (*_SIZES, "fds", "pipes", "sockets", "threads", "cpu"):
        found[name] = round(sum(each[name] for each in found["processes"]), 2)
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{target.admin}/metrics", timeout=2) as page,
    ):
        found |= scraped(page.read().decode())
    return found


class Sampler:
    """Takes them every so many seconds; `samples` by the target's name."""

    def __init__(self, targets: list[Target], every: float) -> None:
        self._targets, self._every = targets, every
        self.samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
        self.load: list[float] = []
        """The machine's, as the kernel says it."""

    async def run(self) -> None:
        """Take them for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._every
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.load.append(os.getloadavg()[0])
            for target in self._targets:
                self.samples[target.name].append(await asyncio.to_thread(sample, target))
