"""What the checks say: the table row by row, and the patience with a server that comes and goes."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from lbproxy.balance.checked import (
    AGREES,
    DIFFERS,
    FLAP_LIMIT,
    FLAP_WINDOW,
    RISES,
    TABLE,
    WORSENS,
    Checked,
    CheckResult,
)
from lbproxy.balance.state import SEVERITY, State

UP, SICK, DRAINING, DOWN = State.UP, State.SICK, State.DRAINING, State.DOWN
WORDS = (UP, SICK, DRAINING, DOWN)
BAD = (SICK, DRAINING, DOWN)
RISE, FALL = 3, 2
NEEDED = {WORSENS: FALL, DIFFERS: FALL, RISES: RISE}

ROWS = [
    # in force, a check says, which therefore
    (UP, UP, AGREES),
    (UP, SICK, WORSENS),
    (UP, DRAINING, WORSENS),
    (UP, DOWN, WORSENS),
    (SICK, UP, RISES),
    (SICK, SICK, AGREES),
    (SICK, DRAINING, DIFFERS),
    (SICK, DOWN, DIFFERS),
    (DRAINING, UP, RISES),
    (DRAINING, SICK, DIFFERS),
    (DRAINING, DRAINING, AGREES),
    (DRAINING, DOWN, DIFFERS),
    (DOWN, UP, RISES),
    (DOWN, SICK, DIFFERS),
    (DOWN, DRAINING, DIFFERS),
    (DOWN, DOWN, AGREES),
]


def says(state: State) -> CheckResult:
    """Return a check that says so."""
    return CheckResult(state, f"a check says {state}", state)


def in_force(state: State, rise: int = RISE, fall: int = FALL) -> Checked:
    """Return what checks have settled on `state`."""
    checked = Checked(rise, fall, 0.0)
    for _ in range(fall):
        checked.observe(says(state), 0.0)
    assert (checked.state, checked.unsettled) == (state, False)
    return checked


def hear(checked: Checked, *states: State) -> list[State]:
    """Return what is in force after each of some checks, a second apart."""
    seen = []
    for at, state in enumerate(states):
        before = checked.state
        assert checked.observe(says(state), 1.0 + at) == (checked.state is not before)
        seen.append(checked.state)
    return seen


def test_the_table_has_a_row_for_whatever_a_check_may_say() -> None:
    """And no other: nothing is left to chance."""
    assert [(old, new) for old, new, _ in ROWS] == list(product(WORDS, WORDS))
    assert {(old, new): TABLE[old][new] for old, row in TABLE.items() for new in row} == {
        (old, new): how for old, new, how in ROWS
    }


@pytest.mark.parametrize(("old", "said", "how"), ROWS)
def test_as_many_checks_as_the_row_asks_for_change_the_state(old: State, said: State, how: int) -> None:
    """One fewer changes nothing, and those that agree with what is in force never do."""
    seen = hear(in_force(old), *[said] * 4)
    needed = NEEDED.get(how, len(seen) + 1)
    assert seen == ([old] * (needed - 1) + [said] * 4)[:4]


@pytest.mark.parametrize(("old", "said", "how"), [row for row in ROWS if row[2] != AGREES])
def test_a_check_that_says_what_is_in_force_begins_the_count_anew(old: State, said: State, how: int) -> None:
    """Only those in a row count."""
    fewer = [said] * (NEEDED[how] - 1)
    assert hear(in_force(old), *fewer, old, *fewer)[-1] is old
    assert hear(in_force(old), *fewer, old, *fewer, said)[-1] is said


@pytest.mark.parametrize(
    ("old", "one", "other"),
    [(old, *pair) for old in WORDS for pair in permutations(BAD, 2) if old not in pair],
)
def test_different_bad_ones_add_up_to_the_mildest_only_while_it_is_up(old: State, one: State, other: State) -> None:
    """A server that fails in turns is not well; one that is known to be unwell must be seen to have changed."""
    checked = in_force(old)
    seen = hear(checked, one, other)
    if TABLE[old][one] == WORSENS:
        mildest = min(one, other, key=SEVERITY.__getitem__)
        assert seen == [old, mildest]
        assert checked.reason == f"a check says {mildest}"
    else:
        assert seen == [old, old]
        assert hear(checked, other) == [other]


def test_a_bad_one_ends_the_rise() -> None:
    """Back to the first good one."""
    assert hear(in_force(DOWN), UP, UP, SICK, UP, UP) == [DOWN] * 5


@pytest.mark.parametrize(
    ("pauses", "patience"),
    [
        ([], 1),
        ([FLAP_WINDOW], 1),
        ([FLAP_WINDOW - 1], 2),
        ([FLAP_WINDOW - 1] * 2, 4),
        ([FLAP_WINDOW - 1] * 3, FLAP_LIMIT),
        ([FLAP_WINDOW - 1] * 9, FLAP_LIMIT),
        ([FLAP_WINDOW - 1, FLAP_WINDOW - 1, FLAP_WINDOW], 1),
    ],
)
def test_each_fall_soon_after_the_last_asks_for_more_patience(pauses: list[float], patience: int) -> None:
    """Up to a limit; after a quiet time it is believed as at first."""
    checked = Checked(RISE, 1, 0.0)
    now = 10.0
    checked.observe(says(DOWN), now)
    for pause in pauses:
        while checked.state is DOWN:
            checked.observe(says(UP), now)
        now += pause
        checked.observe(says(DOWN), now)
    rises = hear(checked, *[UP] * RISE * patience)
    assert rises == [DOWN] * (RISE * patience - 1) + [UP]


def test_nothing_is_settled_before_the_first_check_and_while_one_counts() -> None:
    """The next check is then worth having soon."""
    checked = Checked(RISE, FALL, 0.0)
    seen = [checked.unsettled]
    for state in (UP, DOWN, UP, DOWN, DOWN):
        checked.observe(says(state), 1.0)
        seen.append(checked.unsettled)
    assert seen == [True, False, True, False, True, False]


def test_what_is_in_force_has_a_reason_and_a_beginning() -> None:
    """Those of the check that brought it about."""
    checked = Checked(1, 1, 3.0)
    assert (checked.reason, checked.since) == ("not checked yet", 3.0)
    checked.observe(says(UP), 4.0)
    assert (checked.reason, checked.since) == ("a check says up", 3.0)
    checked.observe(says(SICK), 5.0)
    checked.observe(CheckResult(SICK, "still", "x"), 6.0)
    assert (checked.reason, checked.since) == ("a check says sick", 5.0)


def test_checks_of_another_kind_begin_with_nothing() -> None:
    """What was being counted when they were switched off is no part of it."""
    checked = in_force(SICK)
    hear(checked, DOWN)
    checked.forget(9.0)
    assert (checked.state, checked.since, checked.answered) == (UP, 9.0, False)
    assert hear(checked, DOWN, DOWN) == [UP, DOWN]
