"""`python -m bench.fleet`: all scenarios by all rules, as tables, pictures and JSON.

Takes about 20 minutes of one processor for 5,000 nodes, and no more than a minute with `--nodes 200`.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from bench.fleet.figures import Figures, figures, table
from bench.fleet.plot import Panel, svg
from bench.fleet.scenarios import RULES, SCENARIOS, Fleet, Outcome, play

OUT = Path(__file__).parents[1] / "out" / "fleet"
SIZES = (10, 100, 1000, 10_000)
PICTURED = {"dies": "a master dies", "vanishes": "a master vanishes", "rolling upgrade": "a rolling upgrade"}
_FIRST = 60
"""Seconds of the first picture: the storm."""


def run(name: str, rules: str, nodes: int) -> Outcome:
    """Play a scenario."""
    scenario = SCENARIOS[name]
    return play(scenario, Fleet(rules, nodes, boot=scenario.boot))


def picture(name: str, nodes: int, found: dict[str, Outcome]) -> str:
    """Return what a scenario looks like."""
    busiest = {
        rules: [(float(second), float(max(each))) for second, each in enumerate(zip(*outcome.connects, strict=True))]
        for rules, outcome in found.items()
    }
    even = {
        rules: [(float(second), value) for second, value in enumerate(outcome.imbalance) if second % 5 == 0]
        for rules, outcome in found.items()
    }
    what = f"{nodes:,} nodes, {PICTURED[name]}"
    storm = {rules: line if name == "rolling upgrade" else line[:_FIRST] for rules, line in busiest.items()}
    return svg([
        Panel(f"{what}: connects a second at the busiest master", "seconds", storm),
        Panel(f"{what}: connections of the busiest master, in times of the mean", "seconds", even, low=1.0),
    ])  # fmt: skip


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    parser.add_argument("--sizes", action="store_true", help="how it grows with the number of nodes, too")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    OUT.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Figures]] = {}
    for name in args.only:
        found = {rules: run(name, rules, args.nodes) for rules in args.rules}
        results[name] = {rules: figures(outcome) for rules, outcome in found.items()}
        print(f"\n### {name}\n", *table(results[name]), sep="\n", flush=True)
        if name in PICTURED:
            (OUT / f"{name.replace(' ', '-')}.svg").write_text(picture(name, args.nodes, found))
        plain = {name: {rules: each._asdict() for rules, each in rows.items()} for name, rows in results.items()}
        (OUT / "figures.json").write_text(json.dumps({"nodes": args.nodes, "figures": plain}, indent=1) + "\n")
    if args.sizes:
        grow(args.rules)


def grow(rules: list[str]) -> None:
    """Show how the worst second grows with the number of nodes."""
    worst: dict[str, list[tuple[float, float]]] = {each: [] for each in rules}
    for nodes in SIZES:
        found = {each: figures(run("dies", each, nodes)) for each in rules}
        print(f"\n### dies, {nodes:,} nodes\n", *table(found), sep="\n", flush=True)
        for each, row in found.items():
            worst[each].append((float(nodes), float(row.worst)))
    panel = Panel(
        "a master dies: connects in the worst second, by the number of nodes", "nodes", worst, logarithmic=True
    )
    (OUT / "sizes.svg").write_text(svg([panel]))


if __name__ == "__main__":
    main()
