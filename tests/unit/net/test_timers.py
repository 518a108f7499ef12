"""Timers: never early, never lost, at one place at a time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbproxy.net.timers import NEVER, TICK, Timer, TimerWheel

pytestmark = pytest.mark.plain

TIMES = st.floats(min_value=0.0, max_value=5000.0)


class Item(Timer):
    """Something to file."""

    __slots__ = ()


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=20), st.lists(TIMES, max_size=20))
def test_no_item_comes_early_and_none_is_lost(filed: list[tuple[float, float]], looks: list[float]) -> None:
    """Whatever was filed comes out once, at the first look after its time and its rounding."""
    wheel = TimerWheel()
    when: dict[Timer, float] = {}
    for now, after in filed:
        item = Item()
        when[item] = now + after
        wheel.put(item, now + after, now)
    out: list[Timer] = []
    for now in [*sorted(looks), 20_000.0]:
        for item in wheel.expire(now):
            assert when[item] <= now
            out.append(item)
    assert len(out) == len(when) == len(set(out))
    assert wheel.next() == NEVER


@given(TIMES, TIMES)
def test_the_rounding_is_a_tick_for_the_near_and_at_most_a_tenth_for_the_far(now: float, after: float) -> None:
    """A timeout of a few seconds is kept to a hundredth of one; only long ones share whole seconds."""
    wheel = TimerWheel()
    wheel.put(Item(), now + after, now)
    late = wheel.next() - (now + after)
    assert -1e-9 < late <= max(TICK, 1.0 if after > 10 else 0.0) + 1e-9


@given(TIMES)
@example(0.285)
def test_what_is_next_comes_when_that_time_has_come(when: float) -> None:
    """Whatever the last bit of the time says, or the loop is woken for it again and again."""
    wheel = TimerWheel()
    item = Item()
    wheel.put(item, when, when)
    assert wheel.expire(wheel.next()) == [item]


@given(st.lists(TIMES, min_size=1, max_size=10))
def test_an_item_stands_at_the_earliest_place_it_was_put(times: list[float]) -> None:
    """Moving leaves nothing behind at the old place; putting off does not move."""
    wheel = TimerWheel()
    item = Item()
    for when in times:
        wheel.put(item, when, 0.0)
    assert min(times) <= wheel.next() <= min(times) + 1.0 + TICK
    assert wheel.expire(10_000.0) == [item]
    assert wheel.expire(20_000.0) == []


def test_a_dropped_item_never_comes() -> None:
    """Dropping twice, or what was never filed, does nothing."""
    wheel = TimerWheel()
    gone, stays = Item(), Item()
    wheel.put(gone, 1.0, 0.0)
    wheel.put(stays, 1.0, 0.0)
    wheel.drop(gone)
    wheel.drop(gone)
    wheel.drop(Item())
    assert wheel.expire(5.0) == [stays]


def test_an_item_may_be_filed_again_when_it_came_out() -> None:
    """It is at no place after it has come out."""
    wheel = TimerWheel()
    item = Item()
    wheel.put(item, 1.0, 0.0)
    assert wheel.expire(2.0) == [item]
    wheel.put(item, 1.0, 2.0)
    assert wheel.expire(2.0) == [item]


def test_next_passes_over_what_was_dropped() -> None:
    """The earliest time is that of an item that is still there."""
    wheel = TimerWheel()
    first, second = Item(), Item()
    wheel.put(first, 1.0, 0.0)
    wheel.put(second, 3.0, 0.0)
    wheel.drop(first)
    assert wheel.next() == pytest.approx(3.0, abs=2 * TICK)


def test_a_bare_timed_thing_has_to_say_what_is_due() -> None:
    """The base class does not swallow a forgotten method."""
    with pytest.raises(NotImplementedError):
        Timer().due(0.0)
