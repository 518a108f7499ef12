"""What clients have met: the table row by row, and what counts as an event of it."""

from __future__ import annotations

from itertools import product

import pytest

from lbproxy.balance.suspicion import (
    CONDEMNED,
    FAILED,
    FAILING,
    LAPSED,
    ON_TRIAL,
    SUSPECT,
    TABLE,
    TRIED,
    TRUSTED,
    VOUCHED,
    WORKED,
    Suspicion,
    TrafficResult,
)

STANDINGS = (TRUSTED, FAILING, SUSPECT, ON_TRIAL)
EVENTS = (FAILED, CONDEMNED, LAPSED, WORKED, VOUCHED, TRIED)

REFUSED = TrafficResult("connect refused")
BROKEN_OFF = TrafficResult("reset before its first byte", answered=True)
CONNECTED = TrafficResult()
ANSWERED = TrafficResult(answered=True)

ROWS = [
    # standing, event, standing that follows
    (TRUSTED, FAILED, FAILING),
    (TRUSTED, CONDEMNED, SUSPECT),
    (TRUSTED, LAPSED, TRUSTED),
    (TRUSTED, WORKED, TRUSTED),
    (TRUSTED, VOUCHED, TRUSTED),
    (TRUSTED, TRIED, TRUSTED),
    (FAILING, FAILED, FAILING),
    (FAILING, CONDEMNED, SUSPECT),
    (FAILING, LAPSED, TRUSTED),
    (FAILING, WORKED, TRUSTED),
    (FAILING, VOUCHED, FAILING),
    (FAILING, TRIED, FAILING),
    (SUSPECT, FAILED, SUSPECT),
    (SUSPECT, CONDEMNED, SUSPECT),
    (SUSPECT, LAPSED, SUSPECT),
    (SUSPECT, WORKED, TRUSTED),
    (SUSPECT, VOUCHED, TRUSTED),
    (SUSPECT, TRIED, ON_TRIAL),
    (ON_TRIAL, FAILED, SUSPECT),
    (ON_TRIAL, CONDEMNED, SUSPECT),
    (ON_TRIAL, LAPSED, ON_TRIAL),
    (ON_TRIAL, WORKED, TRUSTED),
    (ON_TRIAL, VOUCHED, TRUSTED),
    (ON_TRIAL, TRIED, ON_TRIAL),
]


def of(standing: int) -> Suspicion:
    """Return a server of that standing by 20.0: with `max_fails` 3, its first failure at 15.0 and its time over."""
    suspicion = Suspicion(3, 10.0)
    at = {TRUSTED: [], FAILING: [15.0], SUSPECT: [1.0, 2.0, 3.0], ON_TRIAL: [-9.0, -8.0, -7.0]}
    for when in at[standing]:
        suspicion.observe(REFUSED, when)
    if standing == ON_TRIAL:
        suspicion.begin_trial(10.0)
    assert suspicion.standing == standing
    return suspicion


def happen(suspicion: Suspicion, event: int, now: float) -> None:
    """Have an event of the table happen."""
    if event == WORKED:
        suspicion.observe(CONNECTED, now)
    elif event == VOUCHED:
        suspicion.vouch(now)
    elif event == TRIED:
        suspicion.begin_trial(now)
    else:
        suspicion.max_fails = {FAILED: 9, CONDEMNED: 1}[event]
        suspicion.observe(REFUSED, now)


def test_the_table_has_a_row_for_every_standing_and_event() -> None:
    """Nothing is left to chance."""
    assert [(standing, event) for standing, event, _ in ROWS] == list(product(STANDINGS, EVENTS))
    assert [(standing, event, TABLE[standing][event]) for standing, event, _ in ROWS] == ROWS
    assert {len(row) for row in TABLE} == {len(EVENTS)}


@pytest.mark.parametrize(("standing", "event", "after"), [row for row in ROWS if row[1] != LAPSED])
def test_an_event_leads_where_its_row_says(standing: int, event: int, after: int) -> None:
    """Seen from outside, by what has happened at the server."""
    suspicion = of(standing)
    happen(suspicion, event, 20.0)
    assert suspicion.standing == after
    assert suspicion.suspected == (after in (SUSPECT, ON_TRIAL))


@pytest.mark.parametrize(
    ("standing", "pause", "after"),
    [(FAILING, 9.9, SUSPECT), (FAILING, 10.1, FAILING), (SUSPECT, 99.0, SUSPECT), (ON_TRIAL, 99.0, SUSPECT)],
)
def test_failures_lapse_unless_they_have_made_it_suspect(standing: int, pause: float, after: int) -> None:
    """Two within fail_timeout are two; one later is the first of its kind. Who is suspect is not forgotten."""
    suspicion = of(standing)
    suspicion.max_fails = 2
    suspicion.observe(REFUSED, 15.0 + pause)
    assert suspicion.standing == after


@pytest.mark.parametrize(
    ("story", "trusted"),
    [
        ([REFUSED, CONNECTED], True),
        ([REFUSED, ANSWERED], True),
        ([BROKEN_OFF, CONNECTED], False),
        ([BROKEN_OFF, ANSWERED], True),
        ([REFUSED, BROKEN_OFF, CONNECTED], False),
        ([BROKEN_OFF, REFUSED, CONNECTED], False),
        ([BROKEN_OFF, ANSWERED, REFUSED, CONNECTED], True),
    ],
)
@pytest.mark.parametrize("max_fails", [1, 3])
def test_what_undoes_a_failure_is_what_goes_as_far(story: list[TrafficResult], trusted: bool, max_fails: int) -> None:
    """That a server accepts proves nothing of one that broke off what it had accepted."""
    suspicion = Suspicion(max_fails, 10.0)
    for result in story:
        suspicion.observe(result, 1.0)
    assert (suspicion.standing == TRUSTED) == trusted


def test_a_failure_that_has_lapsed_asks_for_nothing_any_more() -> None:
    """A connection broken off long ago does not make a refused one need an answer."""
    suspicion = Suspicion(2, 10.0)
    suspicion.observe(BROKEN_OFF, 0.0)
    suspicion.observe(REFUSED, 11.0)
    suspicion.observe(CONNECTED, 12.0)
    assert suspicion.standing == TRUSTED


@pytest.mark.parametrize(("failure", "trusted"), [(REFUSED, [False, True]), (BROKEN_OFF, [False, False])])
def test_a_check_vouches_for_a_connect_and_only_once_the_time_is_over(
    failure: TrafficResult, trusted: list[bool]
) -> None:
    """It connects and asks, as a client does; what it cannot do is take back that a client was broken off."""
    suspicion = Suspicion(1, 10.0)
    suspicion.observe(failure, 0.0)
    seen = []
    for now in (9.9, 10.0):
        suspicion.vouch(now)
        seen.append(suspicion.standing == TRUSTED)
    assert seen == trusted


def test_a_check_vouches_for_whom_no_client_tries() -> None:
    """A backup that broke off a connection was down for good: nobody goes there while the others are well."""
    suspicion = Suspicion(1, 10.0)
    suspicion.observe(BROKEN_OFF, 0.0)
    suspicion.observe(BROKEN_OFF, 5.0)
    seen = []
    for now in (64.9, 65.0):
        suspicion.vouch(now)
        seen.append(suspicion.standing == TRUSTED)
    assert seen == [False, True]


def test_a_check_waits_for_fail_timeout_where_that_is_longer() -> None:
    """What was configured holds."""
    suspicion = Suspicion(1, 300.0)
    suspicion.observe(BROKEN_OFF, 0.0)
    suspicion.vouch(299.9)
    assert suspicion.standing == SUSPECT
    suspicion.vouch(300.0)
    assert suspicion.standing == TRUSTED


def test_one_connection_at_a_time_tries_a_suspect_server() -> None:
    """When its time is over, and again when one that has gone there took as long without a word."""
    suspicion = Suspicion(1, 10.0)
    assert not suspicion.may_be_tried(0.0)
    suspicion.observe(REFUSED, 0.0)
    assert [suspicion.may_be_tried(now) for now in (0.0, 9.9, 10.0)] == [False, False, True]
    suspicion.begin_trial(12.0)
    assert [suspicion.may_be_tried(now) for now in (12.0, 21.9, 22.0)] == [False, False, True]
    suspicion.observe(REFUSED, 22.0)
    assert [suspicion.may_be_tried(now) for now in (22.0, 31.9, 32.0)] == [False, False, True]
    suspicion.observe(CONNECTED, 33.0)
    assert not suspicion.may_be_tried(99.0)


def test_the_reason_is_the_last_failure_of_a_suspect() -> None:
    """`status` shows it."""
    suspicion = Suspicion(1, 10.0)
    for result in (REFUSED, BROKEN_OFF):
        suspicion.observe(result, 0.0)
        assert suspicion.reason == result.failure


def test_max_fails_0_holds_nothing_against_a_server() -> None:
    """Traffic is then no witness at all."""
    suspicion = Suspicion(0, 10.0)
    for result in (REFUSED, BROKEN_OFF):
        suspicion.observe(result, 0.0)
        assert suspicion.standing == TRUSTED
