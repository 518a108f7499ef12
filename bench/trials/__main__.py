"""`python -m bench.trials`: run the trials, print a table and write JSON; exit status 1 if lbproxy misses a rule."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.trials.listing import TRIALS
from bench.trials.results import Result, Trial
from bench.trials.stage import PROXIES, Scene
from tests.support import certs as certificates
from tests.support.need import STREAM_MODULE, find

BUSY = 50.0
"""Milliseconds by which connections may be begun late before their times are not to be trusted."""
OUT = Path(__file__).parents[1] / "out"


def main() -> int:
    """Run what the command line asks for."""
    names = [trial.name for trial in TRIALS]
    parser = argparse.ArgumentParser(prog="python -m bench.trials", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--proxies", default="lbproxy", metavar="NAME[,NAME]", help=f"of {', '.join(PROXIES)}")
    parser.add_argument("--json", type=Path, default=OUT / "trials.json", metavar="FILE", help="default %(default)s")
    args = parser.parse_args()
    if os.geteuid() != 0 or not find("ip"):
        parser.error("network namespaces need root and the program ip (Debian package iproute2)")
    proxies = [name for name in args.proxies.split(",") if _installed(parser, name)]
    results: dict[str, dict[str, Result]] = {}
    missed = 0
    with tempfile.TemporaryDirectory(prefix="lbproxy-trials-") as made:
        certs = certificates.make(Path(made))
        for trial in (trial for trial in TRIALS if trial.name in args.only):
            results[trial.name] = {}
            for proxy in proxies if not trial.settings else [name for name in proxies if name == "lbproxy"]:
                began = time.monotonic()
                with Scene(proxy, certs, plain=trial.plain, settings=trial.settings) as scene:
                    result = results[trial.name][proxy] = trial.run(scene)
                print(f"{trial.name}, {proxy}, {time.monotonic() - began:.0f} s: {_cell(result)}", file=sys.stderr)
                if proxy == "lbproxy":
                    missed += _judge(trial, result)
    print(_table(proxies, results))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    plain = {name: {proxy: result.plain() for proxy, result in row.items()} for name, row in results.items()}
    args.json.write_text(json.dumps(plain, indent=2) + "\n")
    return 1 if missed else 0


def _installed(parser: argparse.ArgumentParser, proxy: str) -> bool:
    if proxy not in PROXIES:
        parser.error(f"no proxy is called {proxy!r}")
    found = proxy == "lbproxy" or (find(proxy) and (proxy != "nginx" or STREAM_MODULE.exists()))
    if not found:
        print(f"{proxy} is not installed and is left out", file=sys.stderr)
    return bool(found)


def _judge(trial: Trial, result: Result) -> int:
    missed = [rule.text for rule in trial.rules if not rule.met(result)]
    for text in missed:
        print(f"  MISSED by lbproxy: {text}", file=sys.stderr)
    return len(missed)


def _cell(result: Result) -> str:
    parts = []
    if result.tries:
        kinds = f" ({result.kinds()})" if result.errors else ""
        parts.append(f"{result.errors} of {len(result.tries)} failed{kinds}")
        if result.late() > BUSY:
            parts.append(f"(the machine was busy: begun up to {result.late():.0f} ms late)")
        parts.append("p50 {:.1f}, p99 {:.1f}, max {:.1f} ms".format(*map(result.quantile, (0.5, 0.99, 1.0))))
    parts += [f"{name}: {'never' if value is None else value}" for name, value in result.facts.items()]
    return "; ".join(parts)


def _table(proxies: list[str], results: dict[str, dict[str, Result]]) -> str:
    lines = [f"| failure | {' | '.join(proxies)} |", "|---" * (len(proxies) + 1) + "|"]
    titles = {trial.name: trial.title for trial in TRIALS}
    for name, row in results.items():
        cells = " | ".join(_cell(row[proxy]) if proxy in row else "-" for proxy in proxies)
        lines.append(f"| {titles[name]} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
