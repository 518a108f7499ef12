"""`make fuzz`: every target or one, for a time or a number of inputs; or one input once more."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.fuzz.run import fuzz, told
from tests.fuzz.target import show
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Do what the arguments say; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target; not where RUNS is given")
    parser.add_argument("--runs", type=int, default=0, help="inputs of each target")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--input", type=Path, help="a file to show to the target, once")
    asked = parser.parse_args()
    chosen = [TARGETS[asked.target]] if asked.target else list(TARGETS.values())
    if asked.input:
        for target in chosen:
            with target.begin() as run:
                show(target, run, asked.input.read_bytes())
            print(f"{target.name}: nothing wrong with it")
        return 0
    found = False
    for target in chosen:
        result = fuzz(target, 0 if asked.runs else asked.seconds, asked.runs)
        print(told(target, result), flush=True)
        found |= result.found is not None
    return int(found)


if __name__ == "__main__":
    raise SystemExit(main())
