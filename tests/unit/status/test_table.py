"""Rules of rows, durations and sizes."""

from __future__ import annotations

import pytest

from lbproxy.status.table import duration, paragraph, size, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (10**12, "931.3 GiB"),
        (3 * 1024**6, "3072.0 PiB"),
    ],
)
def test_bytes_are_written_in_binary_units(count: int, text: str) -> None:
    """Four figures at most, until the units run out."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (86399, "23h 59m"),
        (86400 * 400, "400d 0h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    """Nobody needs the seconds of a day."""
    assert duration(seconds) == text


ROWS = [["SERVER", "WEIGHT", "CONNS", "REASON"], ["m1", "1", "12", "200: ready"], ["master-2", "10", "3", "refused"]]


def test_a_table_without_a_limit_has_every_column() -> None:
    """What is piped into a program is not cut; words stand to the left and numbers to the right."""
    assert table(ROWS) == [
        "SERVER    WEIGHT  CONNS  REASON",
        "m1             1     12  200: ready",
        "master-2      10      3  refused",
    ]


def test_a_narrow_table_leaves_out_what_can_be_spared_first() -> None:
    """What the table is for stays in line."""
    assert table(ROWS, 30, "REASON", ["WEIGHT", "CONNS"]) == [
        "SERVER    CONNS  REASON",
        "m1           12  200: ready",
        "master-2      3  refused",
    ]


def test_a_narrower_table_has_the_reason_below_each_row() -> None:
    """It is the column that must be read; it wraps, and what could be spared has room again."""
    assert table(ROWS, 16, "REASON", ["WEIGHT"]) == [
        "SERVER    CONNS",
        "m1           12",
        "    200: ready",
        "master-2      3",
        "    refused",
    ]


@pytest.mark.parametrize("width", [1, 3, 8, 20, 40, 79, 80])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    """Even where a word is longer than a line."""
    for line in "\n".join(table(ROWS, width, "REASON", ["WEIGHT"])).splitlines():
        assert len(line) <= max(width, 5)
    assert all(len(line) <= max(width, 3) for line in paragraph("one two-and-a-half three", width))
