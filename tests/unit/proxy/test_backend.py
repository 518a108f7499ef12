"""The one door for what is seen of a server: what it makes of it, and who hears."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.evidence import HELLO_REFUSED, HELLO_UNANSWERED
from lbproxy.balance.group import MISSED
from lbproxy.balance.health import Rules
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.model import HealthConfig
from lbproxy.net.timers import NEVER
from tests.unit.relay.hand import Bench
from tests.unit.scene import Scene

UP, DOWN = State.UP, State.DOWN
CHECKED_DOWN = CheckResult(DOWN, "port closed", "refused")
CHECKED_UP = CheckResult(UP, "port open", "ok")
LATE = CheckResult(DOWN, "no answer within 2s (TLS handshake)", "timeout")


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Make a backend of two servers; nothing is connected to."""
    bench = Bench()
    yield Scene(bench, ("127.0.0.1", 1), ("127.0.0.1", 2), max_fails=2, fail_timeout=10.0)
    bench.close()


def transitions(scene: Scene) -> list[tuple[str, State, bool]]:
    """Return who has become what, and whether checks have found it."""
    return [(name, transition.new, transition.said) for name, transition in scene.transitions]


def test_every_failure_of_traffic_is_passed_on_and_only_a_change_is_told(scene: Scene) -> None:
    """A check or a look-up can be brought forward before the server counts as down."""
    server = scene.servers[0]
    scene.backend.observe(server, TrafficResult("connect refused"), 1.0)
    assert (scene.failed, transitions(scene)) == (["s0"], [])
    scene.backend.observe(server, TrafficResult("connect refused"), 2.0)
    assert (scene.failed, transitions(scene)) == (["s0", "s0"], [("s0", DOWN, None)])
    scene.backend.observe(server, TrafficResult(), 3.0)
    assert (scene.failed, transitions(scene)) == (["s0", "s0"], [("s0", DOWN, None), ("s0", UP, None)])
    assert (server.counts.transitions, scene.servers[1].counts.transitions) == (2, 0)


def test_what_a_check_says_is_not_a_failure_of_traffic(scene: Scene) -> None:
    """Or a check that fails would bring the next one forward, and that the next."""
    for now in (1.0, 2.0):
        scene.backend.observe(scene.servers[0], CHECKED_DOWN, now)
    assert (scene.failed, transitions(scene)) == ([], [("s0", DOWN, DOWN)])


def test_who_acknowledges_nothing_is_hurried_and_down_at_the_first_check_that_says_so(scene: Scene) -> None:
    """Two witnesses who know nothing of each other; watches stand still for seconds until a second check is due."""
    scene.backend.pool.reconcile(replace(scene.backend.settings, health=HealthConfig(fall=3)), "n", 0.0)
    server, other = scene.servers
    scene.backend.silent(server, 1.0)
    assert scene.failed == ["s0"]
    for each in (server, other):
        scene.backend.observe(each, CHECKED_DOWN, 2.0)
    assert scene.states() == [DOWN, UP]


def test_who_hears_of_a_server_and_raises_harms_nobody_else(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the others that hear, nor the check or the connection that has seen something."""

    def raises(*_: object) -> None:
        raise RuntimeError("a bug")

    server, heard = scene.servers[0], list[str]()
    scene.backend.on_transition = raises
    scene.backend.on_failure = lambda server: heard.append(server.name)
    for now in (1.0, 2.0):
        scene.backend.observe(server, TrafficResult("connect refused"), now)
    assert heard == ["s0", "s0"]
    scene.backend.on_failure = raises
    scene.backend.observe(server, TrafficResult("connect refused"), 3.0)
    assert (server.health.state, server.counts.transitions) == (DOWN, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "p: who hears of changes met a bug",
        "p: who hears of failures met a bug",
    ]
    assert all(record.exc_info for record in caplog.records)


def test_slow_start_counts_from_the_recovery(scene: Scene) -> None:
    """And not from a change to anything else."""
    server = scene.servers[0]
    for now in (1.0, 2.0):
        scene.backend.observe(server, CHECKED_DOWN, now)
    assert server.recovered_at == -float("inf")
    for now in (3.0, 4.0, 5.0, 6.0):
        scene.backend.observe(server, CHECKED_UP, now)
    assert server.health.state is UP
    assert 3.0 <= server.recovered_at <= 6.0


def test_a_found_server_is_admitted_gradually_from_its_first_good_check(scene: Scene) -> None:
    """It has no connections yet, so that least connections would send it those of all nodes at once."""
    server = scene.servers[0]
    server.unproved = True
    server.health.rules = Rules(interval=5.0)
    scene.backend.uncheck(server, 1.0)
    scene.backend.observe(server, CHECKED_UP, 3.0)
    assert (server.unproved, server.recovered_at) == (False, 3.0)


def test_without_checks_what_they_said_is_forgotten_and_what_traffic_said_is_not(scene: Scene) -> None:
    """The reason that is shown is not one that no longer holds."""
    checked, suspect = scene.servers
    for server in (checked, suspect):
        for now in (1.0, 2.0):
            scene.backend.observe(server, CHECKED_DOWN, now)
    for now in (3.0, 4.0):
        scene.backend.observe(suspect, TrafficResult("connect refused"), now)
    scene.backend.uncheck(checked, 5.0)
    scene.backend.uncheck(suspect, 5.0)
    assert scene.states() == [UP, DOWN]
    assert checked.health.reason != "port closed"
    told = len(scene.transitions)
    scene.backend.uncheck(checked, 6.0)
    assert len(scene.transitions) == told


def test_a_server_that_has_broken_off_must_answer_to_be_trusted_again(scene: Scene) -> None:
    """That it accepts another connection proves nothing."""
    server = scene.servers[0]
    for now in (1.0, 2.0):
        scene.backend.saw(server, HELLO_REFUSED, "gone", now, "early_reset")
    assert server.counts.failures == {"early_reset": 2}
    assert scene.failed == ["s0", "s0"]
    assert scene.states() == [DOWN, UP]
    scene.backend.observe(server, TrafficResult(), 3.0)
    assert scene.states() == [DOWN, UP]
    scene.backend.answered(server, NEVER, 4.0)
    assert scene.states() == [UP, UP]


def test_the_time_to_the_first_byte_counts_from_a_whole_clienthello(scene: Scene) -> None:
    """Of a client that speaks something else, or by and by, the time says nothing of the server."""
    server = scene.servers[0]
    scene.backend.answered(server, NEVER, 4.0)
    assert sum(server.counts.first_byte_seconds.counts) == 0
    scene.backend.answered(server, 3.5, 4.0)
    assert sum(server.counts.first_byte_seconds.counts) == 1


def test_who_hears_of_names_hears_only_of_changes(scene: Scene) -> None:
    """An answer like the last one is none, and an empty one says nothing."""
    told: list[tuple[int, int]] = []
    backend = scene.backend
    backend.on_resolved = lambda came, gone: told.append((len(came), len(gone)))
    group = backend.pool.groups[0]
    here, there = group.members[0].endpoint, (socket.AF_INET, ("10.0.0.9", 1))
    assert here is not None
    for answer in ([here], [], [here, there], [there, here], [there]):
        backend.resolved(group, answer, 1.0)
    backend.resolved(group, [there], 1.0 + MISSED)
    assert told == [(1, 0), (0, 1)]


def test_a_client_without_a_server_hurries_the_names_that_are_not_known(scene: Scene) -> None:
    """And nothing else: a server that is full or drained is no reason to ask."""
    scene.servers[1].endpoint = None
    scene.backend.nobody()
    assert scene.failed == ["s1"]


@pytest.fixture
def checked(scene: Scene) -> Scene:
    """Have both servers checked, and found up at 1.0."""
    scene.backend.pool.reconcile(replace(scene.backend.settings, health=HealthConfig()), "n", 0.0)
    for server in scene.servers:
        server.health.forget_checks(0.0)
        scene.backend.observe(server, CHECKED_UP, 1.0)
    scene.transitions.clear()
    return scene


def test_who_alone_is_late_is_down_as_soon_as_enough_checks_agree(checked: Scene) -> None:
    """The others are asked when the first is late, and have answered by the time of the second."""
    bad, good = checked.servers
    checked.backend.observe(bad, LATE, 10.0)
    assert (bad.like_all, checked.failed) == (True, ["s1"])
    checked.backend.observe(good, CHECKED_UP, 10.01)
    assert (bad.like_all, checked.failed) == (False, ["s1", "s0"]), "asked again at once"
    checked.backend.observe(bad, LATE, 12.0)
    assert checked.states() == [DOWN, UP]


def test_where_all_are_late_nobody_is_down_for_it(checked: Scene) -> None:
    """A queue before all masters would have clients taken off one of them, who then stand in the queue of another."""
    for now in (10.0, 12.0, 14.0):
        for server in checked.servers:
            checked.backend.observe(server, LATE, now)
    assert checked.states() == [State.SICK, State.SICK]
    assert [each for _, each, _ in transitions(checked)] == [State.SICK, State.SICK]
    assert checked.servers[0].health.reason.endswith("nor from another server")


def test_who_was_late_like_all_stays_that_until_it_answers(checked: Scene) -> None:
    """The first whose queue is over says nothing of the others; those are asked once more when it is up."""
    one, other = checked.servers
    for now in (10.0, 12.0):
        for server in (one, other):
            checked.backend.observe(server, LATE, now)
    checked.failed.clear()
    for now in (13.0, 18.0, 23.5):
        checked.backend.observe(one, CHECKED_UP, now)
    assert (checked.states(), checked.failed) == ([UP, State.SICK], ["s1"])
    for now in (24.0, 26.0):
        checked.backend.observe(other, LATE, now)
    assert (other.health.state, other.like_all) == (State.SICK, True)
    checked.backend.observe(other, CHECKED_UP, 30.0)
    assert (other.late, other.like_all) == (False, False)


def test_who_refuses_is_nobody_to_compare_with(checked: Scene) -> None:
    """The last one that is left is down when it is late, as ever."""
    left, gone = checked.servers
    for now in (10.0, 12.0):
        checked.backend.observe(gone, CHECKED_DOWN, now)
        checked.backend.observe(left, LATE, now + 1)
    assert checked.states() == [DOWN, DOWN]


def test_who_acknowledges_nothing_is_down_wherever_else_is_late(checked: Scene) -> None:
    """The kernel's word is of this server alone."""
    one, other = checked.servers
    for server in (one, other):
        checked.backend.observe(server, LATE, 10.0)
    checked.backend.silent(one, 11.0)
    checked.backend.observe(one, LATE, 12.0)
    assert one.health.state is DOWN


def test_a_client_who_waits_in_vain_makes_its_server_late_and_one_that_is_answered_has_it_asked(scene: Scene) -> None:
    """What was seen last counts, of clients as of checks."""
    server = scene.servers[0]
    scene.backend.saw(server, HELLO_UNANSWERED, "no first byte", 1.0, "first_byte_timeout")
    assert server.late
    scene.failed.clear()
    scene.backend.answered(server, 2.0, 5.0)
    assert (server.late, server.answered_at, scene.failed) == (False, 2.0, ["s0"])
    scene.backend.saw(server, HELLO_UNANSWERED, "no first byte", 6.0, "first_byte_timeout")
    scene.backend.saw(server, HELLO_REFUSED, "reset", 7.0, "early_reset")
    assert not server.late
