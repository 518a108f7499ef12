"""The search for a server that answers: whom it asks, what it says again, and whom it holds it against."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.proxy.dial import STAGGER
from lbproxy.proxy.phases import DIALLING
from lbproxy.proxy.search import CLIENT_LEFT, UNREACHABLE
from lbproxy.proxy.session import Session
from tests.unit.proxy.story import HELLO, Story
from tests.unit.relay.hand import Bench, ended, reset
from tests.unit.scene import Scene, closed_port


@pytest.fixture
def story(bench: Bench) -> Iterator[Story]:
    """Have a client in front of two servers of which the first is preferred."""
    story = Story(bench).begin()
    yield story
    story.session.cut("end of the test")
    story.loop.settle()
    assert story.scene.idle()
    assert len(story.ends) == 1


def test_a_server_that_stays_silent_is_left_for_another_with_what_the_client_said(bench: Bench) -> None:
    """The other one gets the ClientHello to the byte; the silent one is suspect, and reset."""
    story = Story(bench, first_byte_timeout=0.05).begin()
    story.client.send(HELLO)
    first = story.accept(0)
    assert story.hear(first, len(HELLO)) == HELLO
    second = story.accept(1)
    assert story.hear(second, len(HELLO)) == HELLO
    second.send(b"hello, client")
    assert story.hear(story.client, 13) == b"hello, client"
    assert ended(first) == "rst"
    assert story.servers[0].counts.failures == {"first_byte_timeout": 1}
    assert (story.servers[0].counts.replays, story.session.server) == (1, story.servers[1])
    assert story.scene.states() == [State.DOWN, State.UP]
    story.session.cut("end of the test")
    assert story.scene.idle()


def test_a_silent_server_may_still_answer_while_another_one_is_dialled(bench: Bench) -> None:
    """It may just be slow, and be the only one that works."""
    story = Story(bench, count=1, first_byte_timeout=0.05).begin()
    story.client.send(HELLO)
    first = story.accept(0)
    story.loop.until(lambda: story.servers[0].counts.failures)
    first.send(b"late")
    assert story.hear(story.client, 4) == b"late"
    assert story.ends == []
    story.session.cut("end of the test")


def test_a_silent_server_is_waited_for_where_the_others_were_late_just_now(bench: Bench) -> None:
    """One more ClientHello in another queue would serve nobody sooner, and everybody behind it later."""
    story = Story(bench, first_byte_timeout=0.05).begin()
    other = story.servers[1]
    other.failed(late=True, now=bench.poller.now)
    story.client.send(HELLO)
    first = story.accept(0)
    story.loop.until(lambda: story.servers[0].counts.failures)
    story.loop.settle()
    assert other.connections == 0
    first.send(b"late")
    assert story.hear(story.client, 4) == b"late"
    assert (story.session.server, other.counts.replays) == (story.servers[0], 0)
    story.session.cut("end of the test")
    assert story.scene.idle()


@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("said", [b"", HELLO])
def test_a_server_that_ends_before_its_first_byte_is_replaced(story: Story, how: str, said: bytes) -> None:
    """Nothing has happened yet that another server could not do as well; the failure is remembered."""
    if said:
        story.client.send(said)
    first = story.accept(0)
    assert story.hear(first, len(said)) == said
    if how == "rst":
        reset(first)
    else:
        first.close()
    second = story.accept(1)
    story.client.send(HELLO[len(said) :])
    assert story.hear(second, len(HELLO)) == HELLO
    assert story.scene.states() == [State.DOWN, State.UP]
    assert sum(story.servers[0].counts.failures.values()) == 1
    story.scene.backend.observe(story.servers[0], TrafficResult(), 0.0)
    assert story.scene.states() == [State.DOWN, State.UP]


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_a_server_may_lose_patience_with_half_a_client_hello(story: Story, how: str) -> None:
    """It waited for the rest, as it should: nothing is held against it, and the client is told what it did."""
    story.client.send(HELLO[:7])
    first = story.accept(0)
    assert story.hear(first, 7) == HELLO[:7]
    if how == "rst":
        reset(first)
    else:
        first.close()
    story.loop.until(lambda: story.ends == [f"server_{how}"])
    assert ended(story.client) == how
    assert story.scene.states() == [State.UP, State.UP]
    assert story.servers[0].counts.failures == {}


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_a_client_that_has_waited_in_vain_and_leaves_has_seen_something(
    story: Story, leave: Callable[[socket.socket], None]
) -> None:
    """Nobody waits as long as first_byte_timeout; else half of all clients go on meeting the server that hangs."""
    story.client.send(HELLO)
    story.hear(story.accept(0), len(HELLO))
    story.session._search._spoke_at -= STAGGER  # type: ignore[union-attr]
    leave(story.client)
    story.loop.until(lambda: story.servers[0].counts.failures == {"given_up": 1})
    assert story.scene.states() == [State.DOWN, State.UP]


def test_a_client_that_leaves_at_once_has_seen_nothing(story: Story) -> None:
    """A program that is killed says nothing of the server."""
    story.client.send(HELLO)
    story.hear(story.accept(0), len(HELLO))
    reset(story.client)
    story.loop.until(lambda: story.ends == [CLIENT_LEFT])
    assert story.scene.states() == [State.UP, State.UP]
    assert story.servers[0].counts.failures == {}


def test_the_wait_goes_on_being_timed_after_the_clients_fin(story: Story) -> None:
    """The server hears of the FIN, may still answer, and is not waited for longer than for anybody else."""
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    story.client.shutdown(socket.SHUT_WR)
    story.loop.until(lambda: ended(first) == "fin")
    now = story.bench.poller.now
    assert story.session.due(now) <= now + story.scene.backend.first_byte_timeout
    story.session.due(now + story.scene.backend.first_byte_timeout)
    assert story.ends == [CLIENT_LEFT]


def test_a_client_that_half_closes_behind_its_client_hello_gets_the_answer(story: Story) -> None:
    """An odd client, and a right one."""
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    story.client.shutdown(socket.SHUT_WR)
    story.loop.until(lambda: ended(first) == "fin")
    first.send(b"answer")
    first.close()
    assert story.hear(story.client, 6) == b"answer"
    story.loop.until(lambda: story.ends)
    assert ended(story.client) == "fin"


def test_a_client_that_only_listens_hears_a_server_that_speaks_first(story: Story) -> None:
    """FIN at once, and then a banner is read: half-close, as with every other stream."""
    story.client.shutdown(socket.SHUT_WR)
    first = story.accept(0)
    story.loop.until(lambda: ended(first) == "fin")
    first.send(b"banner")
    first.close()
    assert story.hear(story.client, 6) == b"banner"
    story.loop.until(lambda: story.ends)
    assert story.scene.states() == [State.UP, State.UP]


@pytest.mark.parametrize(("interval", "state"), [(0.0, State.DOWN), (5.0, State.UP)])
def test_what_a_server_does_with_garbage_counts_only_where_no_check_vouches_for_it(
    story: Story, interval: float, state: State
) -> None:
    """Three port scans must not make all masters suspect while every check says that they are well."""
    server = story.servers[0]
    server.health.checked.interval = interval
    story.client.send(b"\x00\x01garbage")
    first = story.accept(0)
    story.hear(first, 9)
    first.close()
    story.loop.until(lambda: ended(story.client) == "fin")
    story.client.close()
    story.loop.until(lambda: story.ends)
    assert story.scene.states() == [state, State.UP]


def test_a_server_may_lose_patience_with_a_client_that_says_nothing(story: Story) -> None:
    """An API server closes an idle connection after half a minute: that is no failure, and the client gets its FIN."""
    first = story.accept(0)
    story.session.born -= 10
    first.close()
    story.loop.until(lambda: story.ends == ["server_fin"])
    assert ended(story.client) == "fin"
    assert story.at_the_end == [story.servers[0]]
    assert story.servers[0].counts.failures == {}
    assert story.scene.states() == [State.UP, State.UP]


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", HELLO + b"early", b"\x16\x03\x01\x00", b"PRI * HTTP/2.0\r\n"],
)  # fmt: skip
def test_what_is_no_lone_client_hello_is_never_said_twice(story: Story, said: bytes) -> None:
    """A request may have been acted on before the connection broke: the client is told by a reset."""
    story.client.send(said)
    if said.startswith(b"\x16\x03\x01\x00"):
        story.client.shutdown(socket.SHUT_WR)
    first = story.accept(0)
    assert story.hear(first, len(said)) == said
    reset(first)
    story.loop.until(lambda: story.ends)
    assert ended(story.client) == "rst"
    assert story.untouched(1)


def test_what_follows_a_client_hello_is_relayed_and_not_kept(story: Story) -> None:
    """After it the connection belongs to the server that has it."""
    story.client.send(HELLO)
    first = story.accept(0)
    assert story.hear(first, len(HELLO)) == HELLO
    story.client.send(b"more")
    assert story.hear(first, 4) == b"more"
    reset(first)
    story.loop.until(lambda: story.ends)
    assert story.untouched(1)


def test_after_the_first_byte_nothing_is_said_again(story: Story) -> None:
    """A reset is then passed on."""
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    first.send(b"x")
    assert story.hear(story.client, 1) == b"x"
    reset(first)
    story.loop.until(lambda: story.ends)
    assert ended(story.client) == "rst"
    assert story.untouched(1)
    assert sum(story.servers[0].counts.first_byte_seconds.counts) == 1


def test_a_wait_moves_on_when_checks_find_the_server_down(story: Story) -> None:
    """Its client is not closed: by then it has no share in the server whose connections are cut."""
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    story.session.move_on(story.servers[0])
    assert story.session.server is not story.servers[0]
    second = story.accept(1)
    assert story.hear(second, len(HELLO)) == HELLO
    assert ended(first) == "rst"
    assert [server.connections for server in story.servers] == [0, 1]
    assert story.ends == []


@pytest.mark.parametrize("how", ["rst", "fin"])
def test_where_every_server_goes_before_its_first_byte_the_client_is_told_as_the_last_one_did(
    story: Story, how: str
) -> None:
    """A balancer without backends accepts, reads the ClientHello and closes: an end, and no reset."""
    story.client.send(HELLO)
    for at in range(2):
        server = story.accept(at)
        story.hear(server, len(HELLO))
        if how == "rst":
            reset(server)
        else:
            server.close()
    story.loop.until(lambda: story.ends == [UNREACHABLE])
    assert ended(story.client) == how


def test_a_wait_that_has_nowhere_to_go_ends_with_a_reset(bench: Bench) -> None:
    """The client learns at once that nobody can serve it."""
    story = Story(bench, count=1).begin()
    story.client.send(HELLO)
    story.hear(story.accept(0), len(HELLO))
    story.session.move_on(story.servers[0])
    story.loop.settle()
    assert story.ends == [UNREACHABLE]
    assert ended(story.client) == "rst"


def test_a_wait_whose_timeout_is_switched_off_just_waits(story: Story) -> None:
    """A reload says `first_byte_timeout: 0` while a server is silent: the time never comes, and nothing spins."""
    story.client.send(HELLO)
    story.hear(story.accept(0), len(HELLO))
    backend = story.scene.backend
    backend.settings = replace(backend.settings, first_byte_timeout=0.0)
    story.session.refresh()
    story.loop.step(0.05)
    now = story.bench.poller.now
    assert story.session.due(now) > now + 10


def test_a_client_that_leaves_while_connecting_takes_its_attempts_with_it(bench: Bench) -> None:
    """Nobody is connected for it any more, and nothing is held against the server."""
    story = Story(bench, count=0, silent=1).begin()
    bench.loop.settle()
    assert story.servers[0].connections == 1
    reset(story.client)
    story.loop.until(lambda: story.ends == [CLIENT_LEFT])
    assert story.scene.idle()
    assert story.servers[0].counts.failures == {}


def test_a_client_that_leaves_without_a_word_between_two_servers_takes_the_search_with_it(bench: Bench) -> None:
    """The first one has gone, the second does not answer: nobody is there any more to be connected for."""
    story = Story(bench, count=1, silent=1).begin()
    reset(story.accept(0))
    story.loop.until(lambda: story.session.phase == DIALLING and story.servers[1].connections)
    reset(story.client)
    story.loop.until(lambda: story.ends == [CLIENT_LEFT])
    assert story.scene.idle()


def test_a_client_that_has_said_all_between_two_servers_is_still_served(story: Story) -> None:
    """Its ClientHello and its FIN are both for the other one."""
    story.client.send(HELLO)
    first = story.accept(0)
    story.hear(first, len(HELLO))
    story.session.move_on(story.servers[0])
    story.client.shutdown(socket.SHUT_WR)
    second = story.accept(1)
    assert story.hear(second, len(HELLO)) == HELLO
    story.loop.until(lambda: ended(second) == "fin")
    assert story.ends == []


def test_a_client_that_has_said_all_while_connecting_is_still_served(story: Story) -> None:
    """It has sent its request and FIN, and waits for the answer."""
    story.client.send(b"request")
    story.client.shutdown(socket.SHUT_WR)
    first = story.accept(0)
    assert story.hear(first, 7) == b"request"
    story.loop.settle()
    assert ended(first) == "fin"
    first.send(b"answer")
    first.close()
    assert story.hear(story.client, 6) == b"answer"
    story.loop.until(lambda: story.ends)
    assert ended(story.client) == "fin"


@pytest.mark.parametrize("timeout", [0.0, 3.0])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_proxy_header_comes_first(bench: Bench, version: str, timeout: float) -> None:
    """Before the client has said anything, and again at the next server."""
    story = Story(bench, proxy_protocol=version, first_byte_timeout=timeout).begin()
    start = {"v1": b"PROXY TCP4 127.0.0.1 ", "v2": b"\r\n\r\n\0\r\nQUIT\n"}[version]
    first = story.accept(0)
    header = story.hear(first, len(start))
    assert header.startswith(start)
    story.client.send(HELLO)
    assert story.hear(first, len(HELLO)) == HELLO
    if timeout:
        reset(first)
        second = story.accept(1)
        assert story.hear(second, len(header) + len(HELLO)) == header + HELLO
    story.session.cut("end of the test")


def test_when_nobody_can_be_reached_the_client_is_reset(bench: Bench) -> None:
    """Not told a clean end."""
    scene = Scene(bench, closed_port(bench))
    client, near = bench.pair()
    ends: list[str] = []
    Session(
        bench.poller, scene.backend, near, client.getsockname(), lambda _, reason, why: ends.append(f"{reason}: {why}")
    ).thaw()
    bench.loop.until(lambda: ends)
    assert ends == [f"{UNREACHABLE}: s0: connection refused"]
    assert ended(client) == "rst"
