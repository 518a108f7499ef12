"""One target under atheris, in a process of its own: `python -m tests.fuzz.drive NAME [libFuzzer's options]`.

What is instrumented is Python, so it is the plain form that is looked into.
"""

from __future__ import annotations

import logging
import sys

import atheris


def main() -> None:
    """Look for inputs until libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["lbproxy", "h11", "crossplane"]):
        from tests.fuzz.target import show
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    with target.begin() as run:
        atheris.Setup([name, *options], lambda data: show(target, run, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
