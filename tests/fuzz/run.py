"""All targets under atheris, one after the other: how many inputs, how many a second, and what was found."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target

BUILD: Final = Path(__file__).parents[2] / "build" / "fuzz"
"""What was learnt is kept there from one run to the next."""
_INPUT_SECONDS: Final = 30
"""For one input, at most; a busy machine may need a hundred times what a quiet one does."""
_MEBIBYTES: Final = 1024
_SHOWN: Final = 200
"""Bytes of an input that are shown."""
_COUNT: Final = re.compile(r"^stat::number_of_executed_units: (\d+)|^Done (\d+) runs in (\d+) second", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What came of one target: inputs, seconds, and the file of an input that must not be, if any."""

    inputs: int
    seconds: int
    found: Path | None
    said: str


def fuzz(target: Target, seconds: int, runs: int) -> Result:
    """Show a target inputs, for so many seconds or so many of them, whichever comes first; 0 is no limit."""
    corpus, seeds = BUILD / target.name / "corpus", BUILD / target.name / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (seeds / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-runs={runs or -1}",
        f"-max_len={target.longest}",
        f"-timeout={_INPUT_SECONDS}",
        f"-rss_limit_mb={_MEBIBYTES}",
        f"-artifact_prefix={BUILD / target.name}/",
        "-print_final_stats=1",
    ]
    if target.words:
        words = BUILD / target.name / "words"
        words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
        options.append(f"-dict={words}")
    before = _findings(target)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:  # libFuzzer ends a process without its goodbyes
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.drive", target.name, *options, str(corpus), str(seeds)],
            capture_output=True, text=True, errors="replace", check=False, env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
    said = done.stdout + done.stderr
    counts = [int(count or "0") for match in _COUNT.finditer(said) for count in match.groups()]
    found = sorted(_findings(target) - before, key=lambda path: path.stat().st_mtime)
    if done.returncode and not found:
        raise SystemExit(f"{target.name} ended with {done.returncode}:\n{said[-4000:]}")
    return Result(
        max(counts[::3] + counts[1::3], default=0), max(counts[2::3], default=0), found[0] if found else None, said
    )


def _findings(target: Target) -> set[Path]:
    return {path for path in (BUILD / target.name).iterdir() if re.match("crash|timeout|oom|leak", path.name)}


def told(target: Target, result: Result) -> str:
    """Return a line about a target, and more if something was found."""
    rate = result.inputs / max(result.seconds, 1)
    line = f"{target.name:16} {result.inputs:10,} inputs {result.seconds:6,} s {rate:9,.0f} a second"
    if result.found is None:
        return line
    data = result.found.read_bytes()
    where = os.path.relpath(result.found)
    trace = re.search(r"=== Uncaught Python exception: ===\n(.*?)\n(?:\n|==|\Z)", result.said, re.DOTALL)
    return (
        f"{line}\nFOUND {result.found.name.partition('-')[0]}: {data[:_SHOWN]!r} ({len(data)} bytes)\n"
        f"{trace[1] if trace else result.said[-2000:]}\nrepeat it: make fuzz TARGET={target.name} INPUT={where}"
    )
