"""One client's connection from accept to close: what it counts, when it is cut, and that it can stand still between."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import Any

import pytest

from lbproxy.balance.state import State
from lbproxy.config.model import Keepalive
from lbproxy.net.contract import Socket
from lbproxy.net.tcpinfo import UNDER_WAY
from lbproxy.proxy.phases import LINKED
from tests.unit.proxy.story import HELLO, Story
from tests.unit.relay.hand import Bench, ended, reset, take


def linked(bench: Bench, **settings: object) -> tuple[Story, socket.socket]:
    """Return a session that relays, and the server's end."""
    story = Story(bench, **{"first_byte_timeout": 0.0, **settings}).begin()
    story.loop.until(lambda: story.session.phase == LINKED)
    return story, story.accept(0)


def test_what_was_sent_before_the_first_byte_counts_as_moved(bench: Bench) -> None:
    """A client that waits for its answer has said something, and that is seen before and after the answer."""
    story = Story(bench).begin()
    assert story.session.bytes_moved() == (0, 0)
    story.client.send(HELLO)
    server = story.accept(0)
    story.hear(server, len(HELLO))
    assert story.session.bytes_moved() == (len(HELLO), 0)
    server.send(b"answer")
    assert story.hear(story.client, 6) == b"answer"
    assert story.session.bytes_moved() == (len(HELLO), 6)
    story.session.cut("end of the test")


def test_what_a_client_has_said_outlives_a_rest(bench: Bench) -> None:
    """The server that was told it is left, and one is asked anew with what was said: no byte is lost or said twice."""
    story = Story(bench).begin()
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    rest = story.session.freeze()
    assert rest == (HELLO, (b"", b""))
    assert story.scene.idle()
    story.loop.settle()
    assert ended(first) == "rst"
    story.client.shutdown(socket.SHUT_WR)
    story.loop.settle()
    story.session.thaw(*rest)
    second = story.accept(0)
    assert story.hear(second, len(HELLO)) == HELLO
    story.loop.until(lambda: ended(second) == "fin")
    story.session.cut("end of the test")


def test_a_relayed_connection_outlives_a_rest(bench: Bench) -> None:
    """What comes meanwhile waits in the kernel."""
    story, server = linked(bench)
    rest = story.session.freeze()
    story.client.send(b"up")
    server.send(b"down")
    story.loop.settle()
    assert (take(server), take(story.client)) == (b"", b"")
    story.session.thaw(*rest)
    story.loop.settle()
    assert (take(server), take(story.client)) == (b"up", b"down")
    story.session.cut("end of the test")


def test_what_is_to_be_cut_while_it_stands_still_is_cut_as_soon_as_it_goes_on(bench: Bench) -> None:
    """Its server was found down meanwhile; while it may be another process's, its sockets are left alone."""
    story, server = linked(bench)
    rest = story.session.freeze()
    story.session.cut("server_down")
    story.loop.settle()
    assert (story.ends, ended(story.client), ended(server)) == ([], "open", "open")
    story.session.thaw(*rest)
    assert (ended(story.client), ended(server)) == ("rst", "rst")
    assert story.ends == ["server_down"]
    assert story.scene.idle()


def test_a_cut_resets_both_sides(bench: Bench) -> None:
    """Whatever phase it is in, and the server is still known to whoever counts it."""
    story, server = linked(bench)
    story.session.cut("server_down")
    assert (ended(story.client), ended(server)) == ("rst", "rst")
    assert (story.ends, story.at_the_end) == (["server_down"], [story.servers[0]])
    assert story.scene.idle()


def test_an_idle_connection_is_cut_when_its_time_is_over(bench: Bench) -> None:
    """Not before, and after a reload by the new time."""
    story, _ = linked(bench, idle_timeout=600.0, tcp_user_timeout=0.0)
    now = bench.poller.now
    assert story.session.due(now) > now + 500
    backend = story.scene.backend
    backend.settings = replace(backend.settings, idle_timeout=0.001)
    story.session.refresh()
    story.loop.until(lambda: story.ends == ["idle_timeout"])


class Asked:
    """A socket of whose peer the kernel says that `probes` of its closed window are unanswered, and since when."""

    def __init__(self, sock: Socket, probes: int, seconds: float) -> None:
        self._sock = sock
        self.probes = probes
        self.seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        """Return what the kernel would."""
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO):
            return struct.pack("=3xB52xI", self.probes, round(self.seconds * 1000))
        return self._sock.getsockopt(level, option, size)


@pytest.mark.parametrize("answered", [True, False])
def test_a_question_of_this_very_moment_is_not_unanswered_yet(bench: Bench, answered: bool) -> None:
    """Linux leaves the second of two probes within half a second unanswered; the answer to the third is under way."""
    story, _ = linked(bench, tcp_user_timeout=0.5)
    link = story.session.link
    assert link is not None
    link.server = asked = Asked(link.server, probes=2, seconds=1.3)  # type: ignore[assignment]
    now = bench.poller.now
    when = story.session.due(now)
    assert when >= now + UNDER_WAY
    assert story.ends == []
    if answered:
        asked.probes, asked.seconds = 0, when - now
    else:
        asked.seconds += when - now
    story.session.due(when)
    assert story.ends == ([] if answered else ["server_timeout"])
    story.session.cut("end of the test")


def test_a_client_that_waits_for_a_first_byte_for_too_long_is_cut(bench: Bench) -> None:
    """A server may take its time, but not for ever."""
    story = Story(bench, idle_timeout=600.0).begin()
    story.accept(0)
    story.loop.settle()
    now = bench.poller.now
    assert story.session.due(now) > now + 500
    assert story.ends == []
    story.session.due(now + 601)
    assert story.ends == ["idle_timeout"]


@pytest.mark.parametrize("timeout", [0.0, 3.0])
def test_a_connection_is_hardened_once_and_again_after_a_reload(bench: Bench, timeout: float) -> None:
    """Only one that has lived a while is worth the system calls; what was set by hand in between stays."""
    story = Story(bench, first_byte_timeout=timeout, keepalive=Keepalive(idle=7)).begin()
    story.accept(0).send(b"x")
    story.loop.until(lambda: story.session.link)
    link = story.session.link
    assert link is not None

    def idle() -> int:
        return link.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    unset = idle()
    story.session.due(bench.poller.now)
    assert (unset, idle()) == (unset, 7)
    link.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 9)
    story.session.due(bench.poller.now)
    assert idle() == 9
    story.session.refresh()
    story.loop.until(lambda: idle() == 7)
    story.session.cut("end of the test")


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_server_that_ends_a_relayed_connection_without_a_byte_is_blamed(bench: Bench, how: str) -> None:
    """It took the connection, and nothing came of it."""
    story, server = linked(bench)
    story.client.send(b"request")
    story.hear(server, 7)
    if how == "rst":
        reset(server)
    else:
        server.close()
    story.loop.until(lambda: ended(story.client) == how)
    story.client.close()
    story.loop.until(lambda: story.ends)
    assert list(story.servers[0].counts.failures) == [f"early_server_{how}"]
    assert story.scene.states() == [State.DOWN, State.UP]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_client_that_says_nothing_has_said_nothing_behind_a_proxy_header(bench: Bench, version: str) -> None:
    """A server that loses patience with it is not to blame, and the header is no byte of the client's."""
    story, server = linked(bench, proxy_protocol=version)
    story.loop.until(lambda: take(server))
    assert story.session.bytes_moved() == (0, 0)
    story.session.born -= 60
    server.close()
    story.loop.until(lambda: ended(story.client) == "fin")
    story.client.close()
    story.loop.until(lambda: story.ends)
    assert (story.servers[0].counts.failures, story.scene.states()) == ({}, [State.UP, State.UP])


def test_a_server_that_has_answered_may_end_what_it_likes(bench: Bench) -> None:
    """Nor is one blamed for what the client has ended first."""
    story, server = linked(bench)
    server.send(b"x")
    assert story.hear(story.client, 1) == b"x"
    reset(server)
    story.loop.until(lambda: story.ends)
    other, server = linked(bench)
    other.client.shutdown(socket.SHUT_WR)
    other.loop.until(lambda: ended(server) == "fin")
    server.close()
    other.loop.until(lambda: other.ends)
    for each in (story, other):
        assert (each.servers[0].counts.failures, each.scene.states()) == ({}, [State.UP, State.UP])
