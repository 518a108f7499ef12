"""Which connections are looked at, and when; that a silent server is found is shown by live/test_silent_host."""

from __future__ import annotations

from lbproxy.net.timers import NEVER
from lbproxy.proxy import vitals
from lbproxy.proxy.vitals import Vitals
from tests.unit.proxy.story import Story
from tests.unit.relay.hand import Bench


def test_nobody_is_hurried_while_all_is_well(bench: Bench) -> None:
    """With all well no server is asked more often than its interval says."""
    story = Story(bench, first_byte_timeout=0.0).begin()
    story.accept(0).send(b"x")
    story.loop.until(lambda: story.session.link)
    looking = Vitals(bench.poller, story.scene.backend, [story.session], lambda: True)
    assert looking.due(5.0) > 5.0
    assert story.scene.failed == []
    story.session.cut("end of the test")


def test_without_connections_it_waits_and_without_listeners_it_ends(bench: Bench) -> None:
    """A proxy that was removed and has ended its connections leaves no timer behind."""
    story = Story(bench).begin()
    for serving, when in ((True, 5.0 + vitals._LOOK), (False, NEVER)):
        looking = Vitals(bench.poller, story.scene.backend, [], lambda serving=serving: serving)  # type: ignore[misc]
        assert looking.due(5.0) == when
    story.session.cut("end of the test")


def test_each_connection_has_its_turn(bench: Bench) -> None:
    """However many there are, a look costs the same, and none is left out for long."""
    story = Story(bench).begin()
    many = [story.session] * (2 * vitals._SOME + 1)
    looking = Vitals(bench.poller, story.scene.backend, many, lambda: True)
    left = []
    for now in range(4):
        looking.due(float(now))
        left.append(len(looking._left))
    assert left == [vitals._SOME + 1, 1, 0, vitals._SOME + 1]
    story.session.cut("end of the test")
