"""When a server is asked: evenly by many nodes, soon in doubt, seldom where nothing hangs on it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.health import Rules
from lbproxy.balance.server import Lease, Server
from lbproxy.balance.shared import Cell
from lbproxy.balance.state import State
from lbproxy.checks.schedule import DOUBTED, IDLE, PATIENT, USUAL, Schedule
from lbproxy.config.model import Address, ServerConfig

UP = CheckResult(State.UP, "ok", "ok")
DOWN = CheckResult(State.DOWN, "refused", "refused")
NEVER = 3600.0


def settled(interval: float, seed: str) -> Schedule:
    """Return a schedule behind its first interval."""
    schedule = Schedule(interval, seed)
    schedule.next(USUAL)
    return schedule


@given(st.floats(0.1, NEVER), st.text(max_size=3))
def test_the_interval_varies_by_a_tenth_and_is_twice_as_long_where_idle(interval: float, seed: str) -> None:
    """So that many nodes stay apart, and none drifts."""
    schedule = settled(interval, seed)
    assert 0.9 * interval <= schedule.next(USUAL) <= 1.1 * interval
    assert 1.8 * interval <= schedule.next(IDLE) <= 2.2 * interval


@pytest.mark.parametrize(("interval", "expected"), [(NEVER, 1.0), (5.0, 1.0), (1.0, 1.0), (0.3, 0.3)])
def test_in_doubt_the_next_check_comes_after_a_second_or_the_interval(interval: float, expected: float) -> None:
    """Whichever is shorter."""
    schedule = settled(interval, "")
    assert (schedule.next(DOUBTED), schedule.least) == (expected, expected)


def test_nodes_that_begin_together_are_spread_evenly_at_once() -> None:
    """Of 5,000 that have booted in one second, each second has its fifth from the second check on."""
    seconds: Counter[int] = Counter()
    for node in range(5000):
        schedule = Schedule(5.0, f"node{node}")
        at = schedule.first()
        assert 0 <= at <= 1
        for gap in [schedule.next(USUAL) for _ in range(7)]:
            at += gap
            seconds[int(at)] += 1
    assert max(seconds[second] for second in range(2, 30)) < 1.35 * 1000


def test_after_doubt_they_are_spread_anew() -> None:
    """All have met the same failure, and have asked every second since."""
    gaps = []
    for node in range(1000):
        schedule = settled(5.0, f"node{node}")
        schedule.next(DOUBTED)
        gaps.append(schedule.next(USUAL))
    assert all(1.0 <= gap <= 5.5 for gap in gaps)
    assert max(Counter(map(int, gaps)).values()) < 300


def test_new_connections_are_every_twelfth_and_not_those_of_all_nodes_at_once() -> None:
    """The first check, all in doubt, and then by chance."""
    rounds: Counter[int] = Counter()
    for node in range(1200):
        schedule = Schedule(5.0, f"node{node}")
        assert schedule.fresh()
        schedule.next(USUAL)
        fresh = []
        for number in range(36):
            fresh.append(schedule.fresh())
            schedule.next(USUAL)
            rounds[number] += fresh[-1]
        assert sum(fresh) == 3
    assert max(rounds.values()) < 150
    schedule.next(DOUBTED)
    assert [schedule.fresh() for _ in range(3)] == [True] * 3


def test_a_node_and_a_server_have_their_own_times_and_always_the_same() -> None:
    """What happened can be told afterwards."""
    one, same, other = (Schedule(5.0, seed) for seed in ("a m1", "a m1", "a m2"))
    assert one.first() == same.first() != other.first()


def test_the_pace_follows_what_is_known_of_the_server() -> None:
    """In doubt before the first answer and as soon as one is bad; idle only where it is up and nobody is there."""
    server = Server(ServerConfig(address=Address("a", 1)), Rules(interval=5.0), 0.0)
    schedule = Schedule(5.0, "")
    assert schedule.pace(server) == DOUBTED
    server.health.observe(UP, 1.0)
    assert schedule.pace(server) == IDLE
    lease = Lease(server)
    assert schedule.pace(server) == USUAL
    server.health.observe(DOWN, 2.0)
    assert schedule.pace(server) == DOUBTED
    lease.release()
    server.health.observe(DOWN, 3.0)
    assert schedule.pace(server) == USUAL, "down is settled, too"
    server.health.observe(UP, 4.0)
    assert schedule.pace(server) == USUAL, "good answers are to be spread over time"


def test_a_server_that_somebody_was_at_since_the_last_check_is_not_idle() -> None:
    """Connections that are over within a second come again."""
    server = Server(ServerConfig(address=Address("a", 1)), Rules(interval=5.0), 0.0)
    server.health.observe(UP, 1.0)
    schedule = Schedule(5.0, "")
    server.counts.connections_total += 1
    assert [schedule.pace(server), schedule.pace(server)] == [USUAL, IDLE]


def test_a_server_that_another_process_has_connections_to_is_not_idle() -> None:
    """With several workers the one that checks carries none itself."""
    rows = memoryview(bytearray(16)).cast("q")
    leads, follows = (Server(ServerConfig(address=Address("a", 1)), Rules(interval=5.0), 0.0) for _ in range(2))
    leads.share(Cell(rows, -1, (0, 1)))
    follows.share(Cell(rows, 1, (0,)))
    leads.health.observe(UP, 1.0)
    schedule = Schedule(5.0, "")
    assert schedule.pace(leads) == IDLE
    lease = Lease(follows)
    assert schedule.pace(leads) == USUAL
    lease.release()
    assert schedule.pace(leads) == IDLE


def test_where_all_are_late_each_is_asked_less_and_less_often_and_not_all_at_once() -> None:
    """Too many who ask are what makes them late."""
    schedule = Schedule(5.0, "a m1")
    waits = [schedule.next(PATIENT) for _ in range(50)]
    assert 2.5 <= waits[0] <= 5.0 <= waits[1] <= 10.0
    assert all(10.0 <= wait <= 20.0 for wait in waits[2:])
    assert max(waits[2:]) - min(waits[2:]) > 5.0
    schedule.next(USUAL)
    assert schedule.next(PATIENT) <= 5.0


def test_a_check_decides_where_the_server_may_be_worse_for_it() -> None:
    """Only then is it worth a handshake to know how bad it is; the first that is late decides nothing."""
    server = Server(ServerConfig(address=Address("a", 1)), Rules(interval=5.0), 0.0)
    schedule = Schedule(5.0, "")
    server.health.observe(UP, 1.0)
    assert not schedule.decides(server)
    server.health.observe(DOWN, 2.0)
    assert schedule.decides(server)
    server.failed(late=True, now=2.0)
    server.like_all = True
    assert (schedule.decides(server), schedule.pace(server)) == (False, PATIENT)
    once = Server(ServerConfig(address=Address("a", 1)), Rules(fall=1, interval=5.0), 0.0)
    once.health.observe(UP, 1.0)
    assert schedule.decides(once)
