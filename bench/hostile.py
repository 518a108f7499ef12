"""What clients that mean no good cost all others: `python bench/hostile.py`, lbproxy beside nginx and HAProxy.

The same load is measured without attackers and with them, in turn and on one process of the proxy; what is shown is the
ratio to the mean of the two runs without that are next to it, for rate and p99 (median of the rounds, and their range),
what each attacker of the first round holds of the proxy's memory, and how much of a CPU all cost it while there is
nobody else.

With many more that never read the kernel's memory for TCP (net.ipv4.tcp_mem) is used up, and each proxy stands still.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import loadgen
import measure
import network
import proxies
from attackers import Attack


@dataclass(frozen=True, slots=True)
class Scenario:
    """`count` attackers of a kind (of those who come and go: each second) beside load.c's `load`."""

    name: str
    kind: str
    count: int
    load: tuple[str, ...] = ("ping", "-c", "64")


SCENARIOS = (
    Scenario("2,000 silent", "silent", 2000),
    Scenario("2,000, a byte a second", "murmur", 2000),
    Scenario("2,000 half-closed", "half", 2000),
    Scenario("garbage, 200", "garbage", 200),
    Scenario("500/s connect and reset", "rst", 500),
    Scenario("500/s connect and close", "flood", 500),
    Scenario("8,000 silent", "silent", 8000),
    Scenario("500 of 5,000 never read", "deaf", 500, ("ping", "-c", "4500")),
    Scenario("100 never read", "deaf", 100),
    Scenario("100 never read, bulk", "deaf", 100, ("down", "-c", "4")),
    Scenario("500 never read, bulk", "deaf", 500, ("down", "-c", "4")),
)
Row = dict[str, float]
_AT_REST = 0.02
"""CPU seconds in half a second."""
_REST = 2.0
"""Seconds."""


def measured(scenario: Scenario, proxy: proxies.Running, rounds: int, seconds: float) -> list[Row]:
    """Measure in turn; returns a row for each round: ratios, what the attackers cost, and what there was without."""
    load = (*scenario.load, "-t", str(seconds))
    assert proxy.pid
    loadgen.run(load, proxy.plain, timeout=120)  # what is new to a process takes it longer
    rest = measure.pss(proxy.pid)
    before = loadgen.run(load, proxy.plain, timeout=120)
    rows: list[Row] = []
    for _ in range(rounds):
        with Attack(
            scenario.kind, scenario.count, proxy.plain[0], "echo" if scenario.kind == "murmur" else "hello"
        ) as attack:
            _settle(proxy.pid)
            held = measure.pss(proxy.pid)
            used = sum(measure.cpu(proxy.pid))
            time.sleep(_REST)
            cost = (sum(measure.cpu(proxy.pid)) - used) / _REST
            during = loadgen.run(load, proxy.plain, timeout=120)
        _settle(proxy.pid)
        after = loadgen.run(load, proxy.plain, timeout=120)
        unit = "units" if during["units"] else "bytes"
        rate, p99 = ((before[key] + after[key]) / 2 for key in (unit, "p99_us"))
        rows.append(
            {
                "rate": during[unit] / rate,
                "p99": during["p99_us"] / p99 if p99 else 0.0,
                "per_second": rate / seconds,
                "p99_without_ms": p99 / 1000,
                "p99_with_ms": during["p99_us"] / 1000,
                "kib": (held - rest) / 1024 / max(1, attack.connected),
                "cpu": cost,
                "connected": attack.connected,
                "errors": during["errors"],
            }
        )
        before = after
    return rows


def _settle(pid: int) -> None:
    """Wait until it is at rest, as when the buffers of those who never read are full: 20 s at most."""
    for _ in range(40):
        used = sum(measure.cpu(pid))
        time.sleep(0.5)
        if sum(measure.cpu(pid)) - used < _AT_REST:
            return


def text(name: str, proxy: str, rows: Sequence[Row]) -> str:
    """Return a line of the table."""
    rate = sorted(row["rate"] for row in rows)
    p99 = sorted(row["p99"] for row in rows)
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return (
        f"{name:26}{proxy:9}{statistics.median(rate):6.2f}  {rate[0]:.2f}-{rate[-1]:.2f}"
        f"{statistics.median(p99):8.2f}  {p99[0]:.2f}-{p99[-1]:.2f}"
        f"{middle['p99_without_ms']:9.1f} {middle['p99_with_ms']:8.1f}"
        f"{rows[0]['kib']:8.1f}{middle['cpu']:7.3f}{middle['connected']:10.0f}{sum(row['errors'] for row in rows):7.0f}"
    )


HEAD = (
    f"{'attackers':26}{'proxy':9}{'rate with/without':>17}{'p99 with/without':>19}{'p99 ms: without, with':>22}"
    f"{'KiB':>4}{'CPUs':>7}{'connected':>10}{'errors':>7}"
)


def main() -> int:
    """Parse the command line, measure, print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=[s.name for s in SCENARIOS], metavar="NAME")
    parser.add_argument("--proxies", default="lbproxy,nginx,haproxy")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    args = parser.parse_args()
    names = list(proxies.versions(args.proxies.split(",")).items())
    print(network.enter(), names)
    loadgen.build()
    measure.most_fds()
    found: dict[str, dict[str, list[Row]]] = {}
    print(HEAD)
    for scenario in (s for s in SCENARIOS if s.name in args.only):
        found[scenario.name] = {}
        for name, _ in names:
            with ExitStack() as stack:
                servers = stack.enter_context(loadgen.servers())
                proxy = stack.enter_context(proxies.running(name, servers))
                try:
                    rows = measured(scenario, proxy, args.rounds, args.seconds)
                except (loadgen.LoadError, AssertionError) as error:
                    print(f"{scenario.name} {name}: {error}", file=sys.stderr)
                    continue
            print(text(scenario.name, name, rows), flush=True)
            found[scenario.name][name] = rows
    (loadgen.OUT / "hostile.json").write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
