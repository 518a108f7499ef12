"""What the checks say: the table row by row, and the patience with a server that comes and goes."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from lbproxy.balance.checked import (
    AGREES,
    DIFFERS,
    FIRST,
    FLAP_LIMIT,
    FLAP_WINDOW,
    RISES,
    SILENT_FOR,
    TABLE,
    WORSENS,
    Checked,
    CheckResult,
)
from lbproxy.balance.state import SEVERITY, State

UP, UNCHECKED, SICK, DRAINING, DOWN = State.UP, State.UNCHECKED, State.SICK, State.DRAINING, State.DOWN
WORDS = (UP, SICK, DRAINING, DOWN)
BAD = (SICK, DRAINING, DOWN)
RISE, FALL = 3, 2
NEEDED = {FIRST: 1, WORSENS: FALL, DIFFERS: FALL, RISES: RISE}

ROWS = [
    # in force, a check says, which therefore
    (UNCHECKED, UP, FIRST),
    (UNCHECKED, SICK, WORSENS),
    (UNCHECKED, DRAINING, WORSENS),
    (UNCHECKED, DOWN, WORSENS),
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


def in_force(state: State, interval: float = 0.1) -> Checked:
    """Return what checks have settled on `state`, at 0."""
    checked = Checked(RISE, FALL, interval, 0.0)
    for _ in range(0 if state is UNCHECKED else FALL):
        checked.observe(says(state), 0.0)
    assert checked.state is state
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
    assert [(old, new) for old, new, _ in ROWS] == list(product((UNCHECKED, *WORDS), WORDS))
    assert {(old, new): TABLE[old][new] for old, row in TABLE.items() for new in row} == {
        (old, new): how for old, new, how in ROWS
    }


@pytest.mark.parametrize(("old", "said", "how"), ROWS)
def test_as_many_checks_as_the_row_asks_for_change_the_state(old: State, said: State, how: int) -> None:
    """One fewer changes nothing, and those that agree with what is in force never do."""
    seen = hear(in_force(old), *[said] * 4)
    needed = NEEDED.get(how, len(seen) + 1)
    assert seen == ([old] * (needed - 1) + [said] * 4)[:4]


@pytest.mark.parametrize(("old", "said", "how"), [row for row in ROWS if row[2] not in (AGREES, FIRST)])
def test_a_check_that_says_what_is_in_force_begins_the_count_anew(old: State, said: State, how: int) -> None:
    """Only those in a row count."""
    old = UP if old is UNCHECKED else old
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
    checked = Checked(RISE, 1, 0.1, 0.0)
    now = 10.0
    checked.observe(says(DOWN), now)
    fell = now
    for pause in pauses:
        while checked.state is DOWN:
            now += 0.1
            checked.observe(says(UP), now)
        now = fell + pause
        fell = now
        checked.observe(says(DOWN), now)
    seen = []
    for _ in range(RISE * patience):
        now += 1.0
        checked.observe(says(UP), now)
        seen.append(checked.state)
    assert seen == [DOWN] * (RISE * patience - 1) + [UP]


def test_the_next_check_is_wanted_soon_before_the_first_and_while_it_looks_worse() -> None:
    """Not while it looks better: what is back is proven over time, and not by checks in a hurry."""
    checked = Checked(RISE, FALL, 5.0, 0.0)
    seen = [checked.unsettled]
    for state in (UP, DOWN, UP, DOWN, DOWN, UP, UP, SICK):
        checked.observe(says(state), 1.0)
        seen.append(checked.unsettled)
    assert seen == [True, False, True, False, True, False, False, False, True]


@pytest.mark.parametrize("bad", BAD)
def test_who_was_bad_is_up_only_after_good_checks_over_time(bad: State) -> None:
    """A master back from a partition says ready after 3.5 s and hangs for 9 s: checks a second apart prove nothing."""
    checked = in_force(bad, interval=5.0)
    when = [1.0, 2.0, 3.0, 4.0, 10.0, 15.9, 16.0]
    assert [checked.observe(says(UP), at) for at in when] == [False] * 6 + [True]
    assert checked.recovered_at == 16.0


def test_who_was_never_checked_is_up_at_the_first_good_check() -> None:
    """A node that boots has no time to lose, and nothing that it should distrust; nor is it admitted by and by."""
    checked = in_force(UNCHECKED)
    assert checked.observe(says(UP), 1.0)
    assert checked.recovered_at == -float("inf")


@pytest.mark.parametrize("state", [UNCHECKED, UP, SICK, DRAINING])
def test_one_check_is_enough_where_the_kernel_has_heard_nothing_either(state: State) -> None:
    """Two witnesses who know nothing of each other; a check that fails otherwise is one, and old news is none."""
    for silent_at, said, settled in ((0.0, DOWN, True), (0.0, SICK, False), (-SILENT_FOR, DOWN, False)):
        checked = in_force(state)
        checked.silent(silent_at)
        assert (checked.observe(says(said), 0.5) and said is DOWN) == settled


def test_a_login_that_is_wanted_proves_less_than_readiness() -> None:
    """Until the same server says that it is ready."""
    checked = in_force(UP)
    seen = [checked.sure]
    for sure in (False, True):
        checked.observe(CheckResult(UP, "403", "http_403", sure), 1.0)
        seen.append(checked.sure)
    assert seen == [True, False, True]


def test_what_is_in_force_has_a_reason_and_a_beginning() -> None:
    """The reason is that of the last check that says so, the beginning that of the first."""
    checked = Checked(1, 1, 5.0, 3.0)
    assert (checked.reason, checked.since) == ("no check has answered yet", 3.0)
    checked.observe(says(UP), 4.0)
    assert (checked.reason, checked.since) == ("a check says up", 4.0)
    checked.observe(says(SICK), 5.0)
    checked.observe(CheckResult(SICK, "still", "x"), 6.0)
    assert (checked.reason, checked.since) == ("still", 5.0)


@pytest.mark.parametrize(("interval", "state"), [(0.0, UP), (5.0, UNCHECKED)])
def test_checks_of_another_kind_begin_with_nothing(interval: float, state: State) -> None:
    """What was being counted when they were switched off is no part of it."""
    checked = in_force(SICK)
    hear(checked, DOWN)
    checked.interval = interval
    checked.forget(9.0)
    assert (checked.state, checked.since) == (state, 9.0)
    assert hear(checked, DOWN, DOWN) == [state, DOWN]
