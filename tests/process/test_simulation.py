"""The simulated world: what no seed may show. See tests/sim."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.sim import mutations

SEEDS = 2000


@pytest.mark.timeout(900)
def test_no_seed_breaks_a_rule() -> None:
    """Whatever clients, servers, the operator and a killer do; a seed that fails is told with how to repeat it."""
    command = [sys.executable, "-m", "tests.sim", "--seeds", str(SEEDS)]
    done = subprocess.run(command, cwd=mutations.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds in" in done.stdout


@pytest.mark.timeout(300)
def test_a_fault_put_in_on_purpose_is_found() -> None:
    """One of those of `make mutations`, so that it is known that a broken rule is told; and the line is still there."""
    for _, file, before, _ in mutations.MUTATIONS:
        assert before in (mutations.ROOT / "lbproxy" / file).read_text(), file
    name, *fault = next(each for each in mutations.MUTATIONS if each[0] == "a FIN for a RST")
    assert "FIN" in mutations.found(*fault), name
