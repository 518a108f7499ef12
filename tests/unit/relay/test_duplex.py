"""The half-close table: what each direction does, and what becomes of the two together."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.relay.duplex import (
    ABORT,
    BROKEN,
    CLOSE,
    EMPTY,
    ENDING,
    EOF,
    FAILED,
    OPEN,
    RESET,
    RUN,
    SHUT,
    TABLE,
    WRITE_REFUSED,
    fate,
)

STATES = (OPEN, ENDING, SHUT, BROKEN, RESET)
EVENTS = (EOF, EMPTY, WRITE_REFUSED, FAILED)
FINAL = (SHUT, BROKEN, RESET)


def test_every_pair_is_in_the_table_or_a_bug() -> None:
    """Final states take no event, and a source ends once; everything else is answered."""
    bugs = {*(state | event for state, event in product(FINAL, EVENTS)), ENDING | EOF}
    assert set(TABLE.rows) | bugs == {state | event for state, event in product(STATES, EVENTS)}
    assert not set(TABLE.rows) & bugs


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(EVENTS))))
def test_whatever_happens_a_clean_end_means_that_nothing_was_lost(history: list[tuple[int, int]]) -> None:
    """CLOSE comes only when both sides have sent FIN and all before it was written; else it is ABORT."""
    states = [OPEN, OPEN]
    seen: list[set[int]] = [set(), set()]
    for which, event in history:
        if fate(*states) != RUN:
            break
        if states[which] | event in TABLE.rows:
            seen[which].add(event)
            states[which] = TABLE[states[which] | event]
    end = fate(*states)
    assert end == fate(*reversed(states))
    lost = any(events & {WRITE_REFUSED, FAILED} for events in seen)
    if end == CLOSE:
        assert not lost
        assert all({EOF, EMPTY} <= events for events in seen)
    if any(FAILED in events for events in seen):
        assert end == ABORT


@pytest.mark.parametrize("other", [OPEN, ENDING])
def test_a_shut_direction_leaves_the_other_one_alone(other: int) -> None:
    """A client that has sent FIN after its request gets its answer."""
    assert fate(SHUT, other) == fate(other, SHUT) == RUN


@pytest.mark.parametrize(("other", "end"), [(OPEN, RUN), (ENDING, RUN), (SHUT, ABORT), (BROKEN, ABORT), (RESET, ABORT)])
def test_a_broken_direction_waits_for_the_other_and_then_is_a_reset(other: int, end: int) -> None:
    """An early answer is passed on to its end, and the bytes that were lost are not hidden."""
    assert fate(BROKEN, other) == fate(other, BROKEN) == end


@pytest.mark.parametrize("other", STATES)
def test_a_reset_ends_both_at_once(other: int) -> None:
    """It is passed on as a reset, whatever the other direction is at."""
    assert fate(RESET, other) == fate(other, RESET) == ABORT


def test_nothing_ends_while_both_are_open() -> None:
    """Two open directions run."""
    assert fate(OPEN, OPEN) == RUN
