"""Taking connections off a server: how many, when, and when not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.net.timers import NEVER
from lbproxy.proxy.evict import Eviction
from lbproxy.proxy.reaction import SPREAD


class Victim:
    """Something to cut; takes itself out of `place` then, as a session does."""

    def __init__(self, place: list[Victim]) -> None:
        self.place = place
        self.reasons: list[str] = []
        place.append(self)

    def cut(self, reason: str) -> None:
        """Be cut."""
        self.reasons.append(reason)
        self.place.remove(self)

    def crashed(self) -> None:
        """Be closed for a bug."""


def crowd(count: int) -> list[Victim]:
    """Return that many victims."""
    place: list[Victim] = []
    for _ in range(count):
        Victim(place)
    return place


def test_without_spread_all_are_cut_at_once() -> None:
    """Each once, for the reason given."""
    place = crowd(5)
    victims = list(place)
    eviction = Eviction("removed", lambda: place, lambda: True)
    assert eviction.due(10.0) == NEVER
    assert place == []
    assert [victim.reasons for victim in victims] == [["removed"]] * 5


def test_an_eviction_whose_reason_has_gone_does_nothing() -> None:
    """The server has recovered, or the operator has changed his mind."""
    place = crowd(5)
    assert Eviction("sick", lambda: place, lambda: False).due(10.0) == NEVER
    assert len(place) == 5


def test_who_had_to_wait_for_a_better_place_has_his_grace_once_there_is_one() -> None:
    """What made all servers sick is over for all of them soon; then nobody need be moved."""
    place = crowd(2)
    well = False
    eviction = Eviction("sick", lambda: place, lambda: True, lambda: well, grace=15.0)
    now = 10.0
    for _ in range(3):
        now = eviction.due(now)
    well = True
    assert (now, eviction.due(now)) == (13.0, 28.0)
    assert len(place) == 2
    assert eviction.due(28.0) == NEVER
    assert place == []


@given(st.integers(0, 500), st.floats(0.5, 30.0))
def test_a_spread_eviction_is_even_and_ends_in_time(count: int, spread: float) -> None:
    """A thousand clients do not all come back in the same moment."""
    place = crowd(count)
    eviction = Eviction("sick", lambda: place, lambda: True, spread=spread)
    now = 100.0
    shares = []
    while True:
        before = len(place)
        when = eviction.due(now)
        shares.append(before - len(place))
        if when == NEVER:
            break
        assert when > now
        now = when
    assert place == []
    assert now <= 100.0 + spread + 0.11
    assert max(shares) <= -(-count * 0.1 // (spread - 0.1)) + 1 + count * 0.1 / spread


def test_it_waits_while_it_may_not_and_spreads_anew() -> None:
    """Nothing is taken off a sick server while no other one is up; it may be the only one that answers at all."""
    place = crowd(60)
    may = False
    eviction = Eviction("sick", lambda: place, lambda: True, lambda: may, spread=SPREAD)
    now = 0.0
    for _ in range(10):
        now = eviction.due(now)
    assert len(place) == 60
    assert now == pytest.approx(10.0)
    may = True
    now = eviction.due(now)
    assert 50 < len(place) < 60
    may = False
    left = len(place)
    now = eviction.due(now)
    assert len(place) == left
    may = True
    eviction.due(now)
    assert left - 5 < len(place) < left


def test_it_stops_in_the_middle_when_its_reason_goes() -> None:
    """A server that recovers keeps what it still has."""
    place = crowd(60)
    still = True
    eviction = Eviction("sick", lambda: place, lambda: still, spread=SPREAD)
    now = eviction.due(0.0)
    left = len(place)
    still = False
    assert eviction.due(now) == NEVER
    assert len(place) == left > 0


def test_nobody_to_cut_is_soon_done() -> None:
    """It does not come back for ever."""
    assert Eviction("drained", list, lambda: True, spread=SPREAD).due(1.0) == NEVER
