"""Measures lbproxy beside nginx, HAProxy and Envoy, in turns on the same machine: `python bench/run.py --quick`.

Prints a table per workload. A whole run (no --quick, --only or --proxies) writes JSON and a picture to
bench/results/, any other to bench/out/. See bench/README.md for what the workloads and columns mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import loadgen
import measure
import network
import proxies
import report

Sample = dict[str, float]
Results = dict[str, dict[str, list[Sample]]]
"""Samples by workload and proxy; the n-th samples of a workload were taken in the same round."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`args` are load.c's (none: h2load); `unit` is what rate and CPU are counted in."""

    name: str
    unit: str
    args: tuple[str, ...] = ()
    pinned: bool = False


WORKLOADS = (
    Workload("ping-1", "exchange", ("ping", "-c", "1"), pinned=True),
    Workload("ping-64", "exchange", ("ping", "-c", "64")),
    Workload("ping-64-4k", "exchange", ("ping", "-c", "64", "-s", "4096")),
    Workload("churn-32", "connection", ("churn", "-c", "32")),
    Workload("up-1", "MB", ("up", "-c", "1")),
    Workload("up-16", "MB", ("up", "-c", "16")),
    Workload("down-1", "MB", ("down", "-c", "1")),
    Workload("down-16", "MB", ("down", "-c", "16")),
    Workload("mix-60-4", "exchange", ("mix", "-c", "60", "-b", "4")),
    Workload("h2-tls", "request"),
    Workload("held-2000", "connection", ("hold", "-c", "2000")),
    Workload("held-most", "connection", ("hold",)),
)
QUIET, RETRIES = 0.1, 4
"""CPUs that others may use during a sample; how often it is tried again when they use more."""
HELD_MOST = 8000
"""kubespray gives nginx 16384 worker_connections, two a client."""


def sample(workload: Workload, proxy: proxies.Running, seconds: float) -> Sample:
    """Run one client once; raises LoadError."""
    cpu, ours, machine, start = measure.cpu(proxy.pid), measure.cpu(os.getpid()), measure.machine(), time.monotonic()
    if workload.args:
        got = loadgen.run((*workload.args, "-t", f"{seconds:g}"), proxy.plain)
    else:
        got = loadgen.h2load(proxy.tls[0], seconds)
    elapsed = time.monotonic() - start
    used, all_of_us = measure.cpu(proxy.pid).since(cpu), measure.cpu(os.getpid()).since(ours)
    busy = measure.machine() - machine
    units = got["bytes"] / 1e6 if workload.unit == "MB" else got["units"]
    if not units:
        raise loadgen.LoadError("not one unit was done")
    values = {
        "rate": got["bytes_per_second"] / 1e6 if workload.unit == "MB" else got["per_second"],
        "machine_us": busy * 1e6 / units,
        "others": max(0.0, busy - sum(all_of_us)) / elapsed,
        "errors": got["errors"],
    }
    if proxy.pid:
        user, kernel = (part * 1e6 / units for part in used)
        values |= {"busy": sum(used) / elapsed, "user_us": user, "sys_us": kernel, "cpu_us": user + kernel}
    if workload.args and workload.args[0] == "mix":  # an exchange there pays for bulk as well
        values = {key: value for key, value in values.items() if not key.endswith("_us")}
        values["bulk_mb"] = got["bytes_per_second"] / 1e6
    if workload.unit != "MB":
        values |= {key: got[key] for key in ("p50_us", "p99_us", "p999_us")}
    return values


def held_sample(workload: Workload, name: str, servers: loadgen.Servers, most: int, workers: int) -> Sample:
    """Start a fresh proxy, hold connections open through it and see what they cost; raises LoadError."""
    count = int(workload.args[-1]) if len(workload.args) > 1 else most
    with proxies.running(name, servers, workers=workers) as proxy:
        if not proxy.pid:
            raise loadgen.LoadError("nothing holds a direct connection")
        loadgen.run(("ping", "-n", "200"), proxy.plain)
        time.sleep(0.3)
        rest = measure.pss(proxy.pid)
        argv = loadgen.command(("hold", "-c", str(count), "-t", "20"), proxy.plain)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout
            opened = client.stdout.readline()
            time.sleep(0.3)
            held = measure.pss(proxy.pid)
            answer = client.communicate("\n", timeout=60)[0]
        if client.returncode:
            raise loadgen.LoadError(f"holding {count} connections failed")
    got = json.loads(answer)
    return {
        "rate": json.loads(opened)["opened_per_second"],
        "held": count,
        "pss_rest_mib": rest / 2**20,
        "pss_per_conn_kib": (held - rest) / 1024 / count,
        "errors": got["errors"],
        **{key: got[key] for key in ("p50_us", "p99_us", "p999_us")},
    }


def quietest(workload: Workload, proxy: proxies.Running, seconds: float, progress: report.Progress) -> Sample:
    """Take a sample, and again while others use the machine and time allows; return the least disturbed."""
    best = sample(workload, proxy, seconds)
    for _ in range(RETRIES):
        if best["others"] < QUIET or progress.spare() < 2 * seconds:
            break
        time.sleep(0.2)
        best = min(best, sample(workload, proxy, seconds), key=lambda s: s["others"])
    return best


def measure_all(
    names: Sequence[str], workloads: Sequence[Workload], rounds: int, seconds: float, limit: float, workers: int
) -> Results:
    """Run every workload on every proxy once a round, the proxies in another order each time.

    `limit` is how many seconds in all may pass before disturbed samples are taken as they are.
    """
    results: Results = {w.name: {n: [] for n in names} for w in workloads}
    most = min(HELD_MOST, (measure.most_fds() - 500) // 2)
    loadgen.build()
    progress = report.Progress(rounds * len(workloads) * len(names), limit)
    with ExitStack() as stack:
        servers = stack.enter_context(loadgen.servers(tls=any(not w.args for w in workloads)))
        alive = {name: stack.enter_context(proxies.running(name, servers, workers=workers)) for name in names}
        for number, workload, name in _turns(names, workloads, rounds):
            progress.step(f"round {number} of {rounds}: {workload.name} {name}")
            try:
                if workload.name.startswith("held"):
                    if name == "direct":
                        continue
                    values = held_sample(workload, name, servers, most, workers)
                else:
                    with measure.on_one_cpu() if workload.pinned else nullcontext():
                        values = quietest(workload, alive[name], seconds, progress)
            except loadgen.LoadError as error:
                progress.note(f"{workload.name} {name}: {error}")
                values = {}
            results[workload.name][name].append(values)
            time.sleep(0.05)  # for what is left of its connections
    progress.done()
    return results


def _turns(names: Sequence[str], workloads: Sequence[Workload], rounds: int) -> Iterator[tuple[int, Workload, str]]:
    order = list(names)
    for number in range(1, rounds + 1):
        for workload in workloads:
            random.shuffle(order)
            for name in order:
                yield number, workload, name


def about(found: dict[str, str], where: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Return what a reader must know of a run: when, on what, with which versions, by which command."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python bench/run.py", *sys.argv[1:]]),
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} x {cpu}",
        "network": where,
        "python": f"{platform.python_version()} ({', '.join(platform.python_build())})",
        "versions": {name: version for name, version in found.items() if version},
        "rounds": rounds,
        "seconds": seconds,
        "load_average": os.getloadavg()[0],
    }


def main() -> int:
    """Parse the command line, measure, print and write. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under two minutes: 3 rounds of 0.5 s, no Envoy")
    parser.add_argument("--only", nargs="+", choices=[w.name for w in WORKLOADS], metavar="WORKLOAD",
                        help="of " + " ".join(w.name for w in WORKLOADS))  # fmt: skip
    parser.add_argument("--proxies", help="comma-separated, of " + " ".join(proxies.NAMES))
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--workers", type=int, default=1, help="processes or threads of every proxy; default 1")
    args = parser.parse_args()
    names = (args.proxies or ",".join(n for n in proxies.NAMES if not (args.quick and n == "envoy"))).split(",")
    if unknown := set(names) - set(proxies.NAMES):
        parser.error(f"unknown proxy: {' '.join(unknown)}")
    chosen = args.only or [w.name for w in WORKLOADS if not (args.quick and w.name == "held-most")]
    workloads = [w for w in WORKLOADS if w.name in chosen]
    rounds, seconds = args.rounds or (3 if args.quick else 5), 0.5 if args.quick else 1.5
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children go with us
    try:
        found = proxies.versions(names)
        for missing in set(names) - set(found):
            print(f"{missing}: not found, left out")
        facts = about(found, network.enter(), rounds, seconds)
        results = measure_all(list(found), workloads, rounds, seconds, 110 if args.quick else 840, args.workers)
    except (loadgen.LoadError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    summary = report.summarise(results)
    print(report.text(facts, summary, {w.name: w.unit for w in workloads}))
    whole = not (args.quick or args.only or args.proxies or args.rounds or args.workers > 1)
    directory = loadgen.HERE / ("results" if whole else "out")
    directory.mkdir(exist_ok=True)
    stem = directory / (facts["date"][:10] if whole else "last")
    stem.with_suffix(".json").write_text(report.as_json(facts, summary))
    drawn = report.picture(facts, summary, stem.with_suffix(".png"))
    print(f"written: {stem.relative_to(loadgen.HERE.parent)}.json" + (" and .png" if drawn else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
