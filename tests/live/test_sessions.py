"""The connections of a proxy: who is let in, what is counted and told."""

from __future__ import annotations

import logging

import pytest

from lbproxy.balance.histogram import LIFE
from lbproxy.net.tcpinfo import heard
from tests.live.place import Place
from tests.unit.relay.hand import ended, reset, stuff, take


def test_beyond_max_connections_clients_are_reset_and_counted(place: Place) -> None:
    """One that leaves makes room; a new limit counts for whoever comes next."""
    place.go_over(max_connections=1)
    client, _, _ = place.linked()
    refused = place.connect()
    place.loop.until(lambda: ended(refused) == "rst")
    assert (place.proxy.view(0.0).rejected, place.limit.open) == ({"max_connections": 1}, 1)
    reset(client)
    place.loop.until(lambda: not len(place.proxy.sessions))
    place.linked()
    place.go_over(max_connections=0)
    place.linked()
    assert place.proxy.view(0.0).connections == 2


def test_a_finished_connection_is_one_line_if_that_is_wanted(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who, where to, how long, how much, and why it ended."""
    caplog.set_level(logging.INFO, "lbproxy.access")
    access = logging.getLogger("lbproxy.access")
    for wanted in (False, True):
        monkeypatch.setattr(access, "disabled", not wanted)
        client, far, name = place.linked()
        stuff(client, b"abc")
        place.loop.until(lambda far=far: take(far) == b"abc")
        address = "{}:{}".format(*client.getsockname())
        client.close()
        far.close()
        place.loop.until(lambda: not len(place.proxy.sessions))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "lbproxy.access"]
    assert line.startswith(f"p {address} -> {name} ")
    assert " in=3 out=0 " in line


def test_how_long_a_connection_was_open_is_counted_when_it_ends(place: Place) -> None:
    """Also one that was another process's before; who was not served has no life to speak of."""
    client, far, _ = place.linked()
    (session,) = place.proxy.sessions
    session.born -= 400.0
    client.close()
    far.close()
    place.loop.until(lambda: not len(place.proxy.sessions))
    lived = place.proxy.view(0.0).lived_seconds
    assert (lived.counts[LIFE.index(600.0)], sum(lived.counts)) == (1, 1)
    assert lived.total_seconds >= 400.0
    for each in place.behind:
        each.close()
    refused = place.connect()
    place.loop.until(lambda: ended(refused) == "rst")
    assert sum(place.proxy.view(0.0).lived_seconds.counts) == 1


def test_clients_that_cannot_be_served_fill_no_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """One line says why; all are counted."""
    for each in place.behind:
        each.close()
    for _ in range(5):
        client = place.connect()
        place.loop.until(lambda client=client: ended(client) == "rst")
    lines = [record.getMessage() for record in caplog.records if "could not be served" in record.getMessage()]
    assert len(lines) == 1
    assert "s0: connection refused" in lines[0]
    assert place.proxy.view(0.0).rejected == {"unreachable": 5}
    assert all("hurry" in told for _, told in place.told())


def test_a_watch_is_quiet_between_two_messages(place: Place) -> None:
    """With an event a second it would else stay where it is for weeks, on a master that has all of them."""
    client, far, name = place.linked()
    stuff(client, b"watch")
    place.loop.until(lambda: take(far))
    (session,) = place.proxy.sessions
    assert session.link
    near = session.link.client
    place.loop.until(lambda: heard(near) > 0.3)
    stuff(far, b"event")
    place.loop.until(lambda: take(client))
    # For as long as only the client has been: the event came later.
    place.loop.until(lambda: list(place.proxy.sessions.quiet(place.server(name), heard(near) - 0.1)))
