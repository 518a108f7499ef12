"""Making a connection: pick, connect, race, on failure pick again; on real loopback sockets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from lbproxy.balance.server import Server
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.net.timers import NEVER
from lbproxy.proxy import dial
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.dial import Attempt, Dial
from tests.unit.relay.hand import Bench, reset
from tests.unit.scene import Scene, closed_port, open_port


class Caller:
    """Who dials: keeps what comes of it, and passes the time on as a session does."""

    def __init__(self, bench: Bench, backend: Backend, tried: tuple[Server, ...] = ()) -> None:
        self.bench = bench
        self.attempts: list[Attempt] = []
        self.whys: list[str] = []
        self.crashes = 0
        self.bug = False
        self.dial = Dial(bench.poller, backend, self, tried)
        bench.poller.turn()
        self.dial.start()

    def crashed(self) -> None:
        """Count bugs."""
        self.crashes += 1

    def connected(self, attempt: Attempt, events: int) -> None:
        """Keep what has won."""
        if self.bug:
            raise RuntimeError("a bug")
        self.attempts.append(attempt)
        self.bench.poller.remove(attempt.fd)
        self.bench.keep(attempt.sock)  # type: ignore[arg-type]

    def unreachable(self, why: str) -> None:
        """Keep why nothing has."""
        self.whys.append(why)

    @property
    def over(self) -> bool:
        """Whether the dial has come to an end."""
        return bool(self.attempts or self.whys)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` is true, and let time pass for the dial."""

        def passed() -> object:
            self.dial.due(self.bench.poller.now)
            return condition()

        self.bench.loop.until(passed)

    def wait(self) -> Server | None:
        """Wait for the end; returns the server that answered, None if none did."""
        self.until(lambda: self.over)
        self.bench.loop.settle()
        assert len(self.attempts) + len(self.whys) == 1
        return self.attempts[0].lease.server if self.attempts else None


def call(scene: Scene, tried: tuple[Server, ...] = ()) -> Caller:
    """Begin to dial."""
    return Caller(scene.bench, scene.backend, tried)


UP, DOWN = State.UP, State.DOWN


def test_the_first_choice_is_connected_and_counted_once(bench: Bench) -> None:
    """Its lease goes to the caller, and nothing is held against anybody."""
    scene = Scene(bench, open_port(bench), open_port(bench))
    caller = call(scene)
    assert caller.wait() is scene.servers[0]
    assert [server.connections for server in scene.servers] == [1, 0]
    assert sum(scene.servers[0].counts.connect_seconds.counts) == 1
    caller.attempts[0].lease.release()
    assert scene.idle()
    assert (scene.transitions, scene.failed) == ([], [])


def test_a_refused_connect_moves_on_at_once_and_is_remembered(bench: Bench) -> None:
    """One failure makes a server suspect, and the next client does not ask it."""
    scene = Scene(bench, closed_port(bench), open_port(bench))
    assert call(scene).wait() is scene.servers[1]
    assert scene.servers[0].counts.failures == {"refused": 1}
    assert scene.states() == [DOWN, UP]
    assert scene.failed == ["s0"]
    scene.servers[1].connections = 100
    assert call(scene).wait() is scene.servers[1]
    assert scene.servers[0].counts.failures == {"refused": 1}


def test_when_all_refuse_the_client_hears_why(bench: Bench) -> None:
    """One line with every failure, at once and not at the deadline."""
    scene = Scene(bench, closed_port(bench), closed_port(bench), connect_deadline=600.0)
    caller = call(scene)
    assert caller.wait() is None
    assert caller.whys == ["s0: connection refused; s1: connection refused"]
    assert scene.idle()


def test_servers_that_are_down_are_asked_all_the_same(bench: Bench) -> None:
    """With nothing better left, what is remembered is no reason to refuse."""
    scene = Scene(bench, open_port(bench))
    scene.servers[0].health.observe(TrafficResult("refused"), 0.0)
    assert scene.states() == [DOWN]
    assert call(scene).wait() is scene.servers[0]


def test_a_silent_server_is_overtaken_and_remembered(bench: Bench) -> None:
    """The next one is asked beside it, the first to answer wins, and the loser is closed and counted out."""
    scene = Scene(bench, bench.silent_port(), open_port(bench), connect_timeout=600.0, connect_deadline=600.0)
    caller = call(scene)
    assert caller.wait() is scene.servers[1]
    assert [server.connections for server in scene.servers] == [0, 1]
    assert scene.servers[0].counts.failures == {"overtaken": 1}
    assert scene.states() == [DOWN, UP]
    assert call(scene).wait() is scene.servers[1]
    assert scene.servers[0].counts.failures == {"overtaken": 1}


def test_each_attempt_has_its_timeout(bench: Bench) -> None:
    """With every server silent all of them are asked, and each is given up by itself."""
    scene = Scene(bench, bench.silent_port(), bench.silent_port(), connect_timeout=0.05, connect_deadline=600.0)
    caller = call(scene)
    assert caller.wait() is None
    assert caller.whys == ["s0: no answer within 0.05s; s1: no answer within 0.05s"]
    assert [server.counts.failures for server in scene.servers] == [{"timeout": 1}, {"timeout": 1}]
    assert scene.idle()


def test_the_deadline_bounds_all_attempts_together(bench: Bench) -> None:
    """What is still under way then is closed, counted out, and held against who did not answer."""
    scene = Scene(bench, bench.silent_port(), bench.silent_port(), connect_timeout=60.0, connect_deadline=0.25)
    caller = call(scene)
    assert caller.wait() is None
    assert caller.whys == ["s0: no answer; s1: no answer"]
    assert scene.idle()
    assert scene.states() == [DOWN, DOWN]


def test_with_no_server_to_be_had_the_caller_hears_at_once(bench: Bench) -> None:
    """All are drained or without an address: there is nobody to blame."""
    scene = Scene(bench, open_port(bench))
    scene.servers[0].manual = True
    assert call(scene).whys == [""]


def test_what_was_tried_before_is_not_tried_again(bench: Bench) -> None:
    """A session that turns to another server names the ones it has left."""
    scene = Scene(bench, open_port(bench), open_port(bench))
    assert call(scene, (scene.servers[0],)).wait() is scene.servers[1]
    assert call(scene, tuple(scene.servers)).whys == [""]


def test_a_caller_who_leaves_closes_every_attempt(bench: Bench) -> None:
    """Nobody is called back, and nothing is held against servers that had not answered yet."""
    scene = Scene(bench, bench.silent_port(), bench.silent_port())
    caller = call(scene)
    caller.until(lambda: scene.servers[1].connections)
    caller.dial.cancel()
    bench.loop.settle()
    assert scene.idle()
    assert (caller.attempts, caller.whys, scene.failed) == ([], [], [])
    assert caller.dial.due(bench.poller.now + 100) == NEVER


def test_an_attempt_moves_on_when_its_server_is_found_down(bench: Bench) -> None:
    """A check has found out before the timeout; the client need not wait for it."""
    scene = Scene(bench, bench.silent_port(), open_port(bench), connect_timeout=600.0, connect_deadline=600.0)
    caller = call(scene)
    caller.dial.abandon(scene.servers[0])
    assert scene.servers[0].connections == 0
    assert caller.wait() is scene.servers[1]
    assert scene.servers[0].counts.failures == {}


@pytest.mark.plain
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
def test_our_own_shortage_is_not_held_against_a_server(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without a descriptor or a local port the attempt waits; others end all the time."""
    scene = Scene(bench, open_port(bench))
    real = dial.connect
    shortages = [3]

    def short(family: int, address: tuple[Any, ...]) -> socket.SocketType:
        if shortages[0]:
            shortages[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(family, address)

    monkeypatch.setattr(dial, "connect", short)
    caller = call(scene)
    assert scene.servers[0].connections == 0
    assert caller.wait() is scene.servers[0]
    assert shortages == [0]
    assert (scene.servers[0].counts.failures, scene.failed, scene.states()) == ({}, [], [UP])


def test_a_server_that_resets_what_it_accepts_has_to_answer_to_be_trusted(bench: Bench) -> None:
    """The reset may come before we look; it is an early end all the same, and that it accepts proves nothing."""
    listener = bench.listen()
    scene = Scene(bench, listener.getsockname(), open_port(bench))
    caller = call(scene)
    reset(listener.accept()[0])
    assert caller.wait() is scene.servers[1]
    assert scene.servers[0].counts.failures == {"reset": 1}
    assert scene.states() == [DOWN, UP]
    scene.backend.observe(scene.servers[0], TrafficResult(), bench.poller.now)
    assert scene.states() == [DOWN, UP]


def test_a_bug_in_who_dials_closes_that_connection_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of it, so that the client does not hang, and the socket is closed."""
    listener = bench.listen()
    scene = Scene(bench, listener.getsockname())
    caller = call(scene)
    caller.bug = True
    bench.loop.until(lambda: caller.crashes)
    bench.loop.settle()
    assert caller.crashes == 1
    accepted = bench.keep(listener.accept()[0])
    assert accepted.recv(1) == b""
    assert "bug" in caplog.text
