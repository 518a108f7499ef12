"""The table of a flow's modes."""

from __future__ import annotations

from itertools import product

import pytest

from lbproxy.relay.mode import (
    BLOCKED,
    COPY,
    COPY_ONLY,
    EMPTIED,
    FULL,
    HOLDING,
    LITTLE,
    NOT_FROM,
    NOT_TO,
    PART,
    PIPED,
    REST,
    REST_ONLY,
    SPLICE,
    TABLE,
)

MODES = (COPY, REST, SPLICE, PIPED, COPY_ONLY, REST_ONLY)
EVENTS = (FULL, PART, BLOCKED, EMPTIED, LITTLE, NOT_FROM, NOT_TO)

BUG = None
ROWS = {
    #           FULL       PART       BLOCKED  EMPTIED    LITTLE  NOT_FROM   NOT_TO
    COPY:      (SPLICE,    REST,      BUG,     BUG,       BUG,    BUG,       BUG),
    REST:      (BUG,       BUG,       BUG,     COPY,      BUG,    BUG,       BUG),
    SPLICE:    (BUG,       REST,      PIPED,   SPLICE,    COPY,   COPY_ONLY, REST_ONLY),
    PIPED:     (BUG,       BUG,       PIPED,   SPLICE,    COPY,   COPY_ONLY, REST_ONLY),
    COPY_ONLY: (COPY_ONLY, REST_ONLY, BUG,     BUG,       BUG,    BUG,       BUG),
    REST_ONLY: (BUG,       BUG,       BUG,     COPY_ONLY, BUG,    BUG,       BUG),
}  # fmt: skip


def test_the_table_is_this_one() -> None:
    """Each mode has an answer to each event, or the event cannot come and is a bug."""
    assert {mode | event: to for mode, row in ROWS.items() for event, to in zip(EVENTS, row, strict=True)} == {
        mode | event: TABLE.rows.get(mode | event, BUG) for mode, event in product(MODES, EVENTS)
    }
    assert len(TABLE.rows) == sum(to is not BUG for row in ROWS.values() for to in row)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_held_goes_first(mode: int) -> None:
    """Nothing is read while a rest is held, so only its end or the next try at it can come."""
    if mode in (REST, REST_ONLY):
        assert {event for event in EVENTS if mode | event in TABLE.rows} == {EMPTIED}
    assert (mode >= HOLDING) == (mode in (REST, PIPED, REST_ONLY))


def test_splice_that_was_refused_is_never_tried_again() -> None:
    """Each try costs a system call that fails."""
    left = [TABLE[mode | event] for mode in (COPY_ONLY, REST_ONLY) for event in EVENTS if mode | event in TABLE.rows]
    assert set(left) == {COPY_ONLY, REST_ONLY}
