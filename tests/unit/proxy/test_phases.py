"""The table of a session's phases, and that a session moves by it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from lbproxy.balance.server import Lease
from lbproxy.proxy.phases import (
    AT_REST,
    CONNECTED,
    DIALLING,
    END,
    ENDED,
    FREEZE,
    HEDGING,
    LINK,
    LINKED,
    LINKED_AT_REST,
    LOST,
    NO_OTHER,
    SILENT,
    START,
    TABLE,
    WAITING,
)
from lbproxy.relay.link import Link
from tests.unit.proxy.story import HELLO, Story
from tests.unit.relay.hand import Bench

EVENTS = (START, CONNECTED, SILENT, LOST, NO_OTHER, LINK, FREEZE, END)
ANSWERED = {
    AT_REST: {START, LINK},
    DIALLING: {CONNECTED, LINK, FREEZE, END},
    WAITING: {SILENT, LOST, LINK, FREEZE, END},
    HEDGING: {CONNECTED, NO_OTHER, LOST, LINK, FREEZE, END},
    LINKED: {FREEZE, END},
    LINKED_AT_REST: {START},
    ENDED: set(),
}
LATER = 10_000.0
"""Seconds, beyond every timeout but those that are NEVER."""


def test_every_pair_is_in_the_table_or_a_bug() -> None:
    """What has ended or is at rest takes nothing that would touch its sockets."""
    pairs = {phase | event for phase, event in product(ANSWERED, EVENTS)}
    assert len(pairs) == len(ANSWERED) * len(EVENTS)
    assert set(TABLE.rows) == {phase | event for phase, events in ANSWERED.items() for event in events}
    for pair in pairs - set(TABLE.rows):
        with pytest.raises(KeyError):
            TABLE[pair]


def test_every_phase_is_reached_from_the_first() -> None:
    """A row that no session comes to would be a rule that nobody keeps."""
    reached = {AT_REST}
    while more := {TABLE[at | event] for at in reached for event in ANSWERED[at]} - reached:
        reached |= more
    assert reached == set(ANSWERED)


def begun(bench: Bench, row: int) -> Story:
    """Return a session that dials. `first_byte_timeout: 0` is what links it at once."""
    return Story(bench, first_byte_timeout=0.0 if row & ~7 == LINK else 3.0).begin()


def waiting(bench: Bench, row: int) -> Story:
    """Return one whose server was told a ClientHello. Another server takes connections only if `row` wants it to."""
    story = Story(bench, 2, connect_deadline=600.0) if row == HEDGING | CONNECTED else Story(bench, 1, 1)
    story.client.send(HELLO)
    story.begin()
    story.loop.until(lambda: story.session.bytes_moved()[0] == len(HELLO))
    return story


def hedging(bench: Bench, row: int) -> Story:
    """Return one whose server has not answered in time."""
    story = waiting(bench, row)
    story.session.due(bench.poller.now + story.scene.backend.first_byte_timeout)
    return story


def linked(bench: Bench, row: int) -> Story:
    """Return one that relays."""
    story = Story(bench, first_byte_timeout=0.0).begin()
    story.loop.until(lambda: story.session.link)
    return story


def linked_at_rest(bench: Bench, row: int) -> Story:
    """Return one that relayed."""
    story = linked(bench, row)
    story.session.freeze()
    return story


PHASES: dict[int, Callable[[Bench, int], Story]] = {
    AT_REST: lambda bench, row: Story(bench),
    DIALLING: begun,
    WAITING: waiting,
    HEDGING: hedging,
    LINKED: linked,
    LINKED_AT_REST: linked_at_rest,
}


def link(story: Story) -> None:
    """Have the session come to its link."""
    before = story.session.phase
    if before == AT_REST:
        _, server = story.bench.pair()
        story.session.lease = Lease(story.servers[0])
        story.session.linked(Link(story.bench.poller, story.session, story.near, server))
        return
    if before != DIALLING:
        story.accept(0).send(b"x")
    story.loop.until(lambda: story.session.phase != before)


def connected(story: Story) -> None:
    """Have the connect that is under way succeed."""
    before = story.session.phase
    story.loop.until(lambda: story.session.phase != before)


DEEDS: dict[int, Callable[[Story], object]] = {
    START: lambda story: story.session.thaw(),
    CONNECTED: connected,
    SILENT: lambda story: story.session.due(story.bench.poller.now + story.scene.backend.first_byte_timeout),
    LOST: lambda story: story.session.move_on(story.servers[0]),
    NO_OTHER: lambda story: story.session.due(story.bench.poller.now + LATER),
    LINK: link,
    FREEZE: lambda story: story.session.freeze(),
    END: lambda story: story.session.cut("cut"),
}
ROWS = [(phase, event) for phase in PHASES for event in EVENTS if phase | event in TABLE.rows]


@pytest.mark.parametrize(("phase", "event"), ROWS)
def test_a_session_moves_by_the_table(bench: Bench, phase: int, event: int) -> None:
    """Each row happens, and leads where it says; the session ends well from there."""
    story = PHASES[phase](bench, phase | event)
    assert story.session.phase == phase
    DEEDS[event](story)
    assert story.session.phase == TABLE[phase | event]
    if story.session.phase in (AT_REST, LINKED_AT_REST):
        story.session.thaw()
    story.session.cut("end of the test")
    assert story.session.phase == ENDED
    assert len(story.ends) == 1
    assert story.scene.idle()


@pytest.mark.parametrize("phase", [AT_REST, LINKED_AT_REST])
def test_at_rest_nothing_is_done_to_a_session(bench: Bench, phase: int) -> None:
    """Its sockets may be another process's by now: no time reaches it, and a cut of a link waits until it goes on."""
    story = PHASES[phase](bench, 0)
    story.session.cut("cut")
    story.session.move_on(story.servers[0])
    story.session.refresh()
    assert story.session.due(bench.poller.now + LATER) == float("inf")
    assert (story.session.phase, story.ends) == (phase, [])
    story.session.thaw()
    if phase == AT_REST:
        story.loop.until(lambda: story.session.server)
        story.session.cut("end of the test")
    assert story.ends == ["end of the test" if phase == AT_REST else "cut"]


@pytest.mark.parametrize("deed", [START, FREEZE])
def test_what_is_not_in_the_table_raises(bench: Bench, deed: int) -> None:
    """An ended session that is started or frozen would touch descriptors that are somebody else's by now."""
    story = PHASES[LINKED](bench, 0)
    story.session.cut("cut")
    story.session.cut("and again")
    story.session.crashed()
    with pytest.raises(KeyError):
        DEEDS[deed](story)
    assert story.ends == ["cut"]
