"""`python -m bench.soak MINUTES`: soak lbproxy, print the verdict; figures and picture go to bench/results/.

Needs root (systemd in namespaces). Exit status 1 if something is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from bench.soak import plan
from bench.soak.plot import picture
from bench.soak.soak import Result, Soak
from lbproxy.net.syscalls import COMPILED

RESULTS = Path(__file__).parents[1] / "results"
_KEPT = ("rss", "pss", "anonymous", "fds", "pipes", "sockets", "threads", "cpu", "lag", "connections", "accepted",
         "kept", "connect_failures", "rejected", "workers")  # fmt: skip


def said(result: Result) -> list[str]:
    """Return the verdict in lines."""
    verdict = result.verdict
    lines = [
        f"streams: {verdict.streams['intact']} intact, {verdict.streams['cut']} cut, {verdict.streams['wrong']} wrong"
    ]
    for name, counts in result.visits.items():
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        lines.append(f"visits, {name}: {what}; slowest {result.slowest[name]:.2f} s")
    for kind, causes in verdict.causes.items():
        lines.append(f"cut, {kind}: " + ", ".join(f"{count} {cause}" for cause, count in causes.most_common()))
    for target, levels in verdict.levels.items():
        for level, (first, second, last) in levels.items():
            grown = f" ({last / second - 1:+.2%})" if second else ""
            lines.append(f"{target}: {level} by thirds {first:g}, {second:g}, {last:g}{grown}")
    return [*lines, *(f"NOT AS IT MUST BE: {fault}" for fault in verdict.faults), f"{len(verdict.faults)} faults"]


def as_json(about: dict[str, Any], result: Result) -> str:
    """Return all of it; samples are a list a column."""
    columns = {
        name: {"seconds": [round(s["at"] - samples[0]["at"], 1) for s in samples]}
        | {key: [s.get(key) for s in samples] for key in _KEPT}
        | {"age": [max((p["age"] for p in s["processes"]), default=None) for s in samples]}
        for name, samples in result.samples.items()
    }
    ended = result.verdict.ended
    parts = {"about": about, "verdict": said(result), "ended": ended, "acts": result.acts, "load": result.load}
    rows = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in parts.items()]
    for name, values in columns.items():
        rows += [
            f' "{name}": {{\n' + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in values.items()) + "\n }"
        ]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main() -> int:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="even if it is not compiled")
    parser.add_argument("--logs", type=Path, help="a directory that keeps the logs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    assert COMPILED or arguments.plain, "not compiled: make compile"
    cycles = plan.cycles(arguments.minutes)
    about = {
        "command": f"make soak MINUTES={arguments.minutes:g}", "date": time.strftime("%Y-%m-%d"),
        "minutes": arguments.minutes, "cycles": cycles, "seed": arguments.seed, "compiled": COMPILED,
        "kernel": platform.release(), "python": platform.python_version(),
        "cycle": [f"{act.at:.2f} {act.what}: {act.whom}" for act in plan.cycle(arguments.seed)],
    }  # fmt: skip
    result = Soak(arguments.minutes, cycles, arguments.seed, logs=arguments.logs).run()
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = arguments.out / f"{about['date']}-soak"
    stem.with_suffix(".json").write_text(as_json(about, result))
    picture(about, result.samples, result.verdict.ended, stem.with_suffix(".png"))
    print(*said(result), sep="\n")
    return 1 if result.verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
