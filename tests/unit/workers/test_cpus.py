"""How many processes `auto` is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbproxy.workers.cpus import count, quota


@pytest.mark.parametrize(
    ("limits", "cpus"),
    [
        ({}, 256),
        ({"a/b/cpu.max": "max 100000"}, 256),
        ({"a/b/cpu.max": "200000 100000"}, 2),
        ({"a/b/cpu.max": "150000 100000"}, 2),
        ({"a/b/cpu.max": "10000 100000"}, 1),
        ({"a/cpu.max": "100000 50000", "a/b/cpu.max": "max 100000"}, 2),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, 1),
        ({"a/b/cpu.max": "what is this"}, 256),
    ],
)
def test_the_tightest_quota_of_a_group_and_of_those_around_it_counts(
    tmp_path: Path, limits: dict[str, str], cpus: int
) -> None:
    """In whole CPUs, rounded up; a group without a quota, or without a file, allows any number."""
    for name, text in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert quota("/a/b", str(tmp_path)) == cpus


def test_a_number_is_that_number() -> None:
    """Whatever the machine has."""
    assert count(3) == 3
    assert count("auto") >= 1
