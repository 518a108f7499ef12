"""Servers and clients. Every byte says whose it is and where it belongs; each end counts what it has said and heard."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.state import State
from tests.sim.kernel import Listens
from tests.sim.tcp import Endpoint, connect

if TYPE_CHECKING:
    from tests.sim.world import World

_BLOCK = 251
_MOST = 65536
_HEAD = struct.Struct("!2sII")
_HELLO = 5 + 4 + 2 + 32
WELL, SLOW, HUNG, RESETTING, SICK, SHUTTING, GONE, SILENT = (
    "well", "slow", "hung", "resetting", "sick", "shutting", "gone", "silent",
)  # fmt: skip
ANSWERS = (WELL, SLOW, SICK, SHUTTING)
"""In these states clients are served."""


def pattern(key: int, offset: int, size: int) -> bytes:
    """Return bytes of the endless stream of that key."""
    start = offset % _BLOCK
    return _stream(key)[start : start + size]


@lru_cache(64)
def _stream(key: int) -> bytes:
    block = bytes((key * 7 + at * (key % 5 + 1)) % 256 for at in range(_BLOCK))
    return block * (_MOST // _BLOCK + 2)


class Talk:
    """What one end has said and heard on a connection."""

    def __init__(self, world: World, end: Endpoint, client: int, *, upward: bool) -> None:
        self.world, self.end, self.client = world, end, client
        self.said = self.heard = 0
        self.says, self.hears = (2 * client, 2 * client + 1) if upward else (2 * client + 1, 2 * client)
        self.closed = self.was_reset = self.finished = self.resets = False
        self.pending = 0

    def say(self, size: int) -> None:
        """Say so many more bytes, as they find room."""
        self.pending += size
        self._push()

    def _push(self) -> None:
        while self.pending and not self.resets and not self.was_reset:
            try:
                sent = self.end.write(pattern(self.says, self.said, min(self.pending, _MOST)))
            except BlockingIOError:
                return
            except OSError:
                self.was_reset = True
                return
            self.said += sent
            self.pending -= sent

    def listen(self, most: int = 1 << 20) -> int:
        """Take in what there is; returns how much."""
        self._push()
        taken = 0
        while taken < most and not self.closed and not self.was_reset and not self.resets:
            try:
                data = self.end.read(min(_MOST, most - taken))
            except BlockingIOError:
                break
            except OSError:
                self.was_reset = True
                break
            if not data:
                self.closed = True
                break
            if data != pattern(self.hears, self.heard, len(data)):
                self.world.wrong(f"client {self.client}: wrong bytes at {self.heard} of stream {self.hears}")
            self.heard += len(data)
            taken += len(data)
        return taken

    def finish(self) -> None:
        """Say that no more comes."""
        if not self.finished and not self.resets and not self.was_reset:
            self.finished = True
            try:
                self.end.finish()
            except OSError:
                self.was_reset = True

    def reset(self) -> None:
        """Break off."""
        if not self.resets:
            self.resets = True
            self.end.reset()


class Port(Listens):
    """Where a server listens."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def arrived(self, near: object) -> bool:
        """See `Listens`."""
        assert isinstance(near, Endpoint)
        near.refs += 1
        self._server.called(near)
        return True


class Server:
    """A master, in one of the states above. `talks` by client; `flights` are the clients that have said anything."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.host = f"10.0.0.{number}"
        self.where = (self.host, 6443)
        self.state = GONE
        self.since = world.kernel.now
        self.talks: list[Talk] = []
        self.history: list[tuple[float, str]] = []
        self.become(WELL)

    def become(self, state: str) -> None:
        """Change; what that does to connections depends on how."""
        kernel, before = self.world.kernel, self.state
        if state == before:
            return
        if before == SILENT:
            self.world.come_back(self.host)
        self.state, self.since = state, kernel.now
        self.history.append((kernel.now, state))
        kernel.latency[self.host] = 0.3 if state == SLOW else 0.0005
        if state == GONE:
            kernel.listening.pop(self.where, None)
            for talk in list(self.talks):
                talk.reset()
            self.talks.clear()
        else:
            kernel.listening[self.where] = Port(self)
        if state == SILENT:
            self.world.fall_silent(self.host)
        if state in ANSWERS:
            for talk in list(self.talks):
                self._heard(talk)

    def ever(self, state: str, begin: float, end: float) -> bool:
        """Whether it was ever in a state in that time."""
        return any(was == state for was in self._was(begin, end))

    def only(self, state: str, begin: float, end: float) -> bool:
        """Whether it was in no other state in that time."""
        return all(was == state for was in self._was(begin, end))

    def _was(self, begin: float, end: float) -> list[str]:
        before = [state for at, state in self.history if at <= begin][-1:]
        return before + [state for at, state in self.history if begin < at <= end]

    def checked(self) -> tuple[float, CheckResult]:
        """Return how long a check takes now, and what it says."""
        wait = {SLOW: 0.7, HUNG: 2.0, SILENT: 2.0}.get(self.state, 0.005)
        if self.state in (WELL, SLOW):
            return wait, CheckResult(State.UP, "200", "ok")
        if self.state == SICK:
            return wait, CheckResult(State.SICK, "500", "http_500")
        if self.state == SHUTTING:
            return wait, CheckResult(State.DRAINING, "shutdown", "shutdown")
        return wait, CheckResult(State.DOWN, self.state, "timeout")

    def called(self, near: Endpoint) -> None:
        """Called with a new connection."""
        talk = Talk(self.world, near, -1, upward=False)
        if self.state == RESETTING:
            self.world.kernel.later(0.002, lambda: (self._peek(talk), near.reset()))
            return
        self.talks.append(talk)
        near.told = lambda: self._heard(talk)

    def _heard(self, talk: Talk) -> None:
        if self.state == HUNG:
            self._peek(talk)
        if self.state == HUNG or talk.resets:
            return
        if talk.client < 0 and not self._greeted(talk):
            if talk.closed or talk.was_reset:
                self._end(talk)
            return
        before = talk.heard
        talk.listen()
        talk.say(talk.heard - before)
        if talk.was_reset or (talk.closed and not talk.pending):
            self._end(talk)

    def _peek(self, talk: Talk) -> None:
        """Have it known what has got here, though it is not read."""
        head, size = _parsed(talk.end.inbox)
        if size and talk.client < 0:
            self.world.arrived(_HEAD.unpack(head)[1], talk, len(talk.end.inbox) - size)

    def _greeted(self, talk: Talk) -> bool:
        """Take in who is there; whether that is known by now."""
        inbox = talk.end.inbox
        head, size = _parsed(inbox)
        if not size:
            if not inbox:
                talk.closed = talk.end.fin_in
                talk.was_reset = talk.end.gone
            return False
        self._peek(talk)
        talk.end.read(size)
        _, talk.client, want = _HEAD.unpack(head)
        talk.says, talk.hears = 2 * talk.client + 1, 2 * talk.client
        self.world.flight_arrived(self, talk)
        talk.say(want)
        return True

    def _end(self, talk: Talk) -> None:
        """Be done with a connection that the other side has ended, and that has nothing more to be said on."""
        if talk in self.talks:
            self.talks.remove(talk)
            talk.finish()
            talk.end.told = lambda: None
            if not talk.was_reset:
                talk.end.refs -= 1
                talk.end.released()


def _parsed(inbox: bytearray) -> tuple[bytes, int]:
    """Return what says who is there, and how long that is with what stands around it; 0 while it is not whole."""
    if inbox[:1] == b"\x16":
        size = 5 + int.from_bytes(inbox[3:5], "big") if len(inbox) >= _HELLO else 0
        return bytes(inbox[11 : 11 + _HEAD.size]), size if size <= len(inbox) else 0
    return bytes(inbox[: _HEAD.size]), _HEAD.size if len(inbox) >= _HEAD.size else 0


ASKS, UPLOADS, DOWNLOADS, HALF_CLOSES, WATCHES, LEAVES, SAYS_NOTHING, READS_SLOWLY, READS_NEVER = (
    "asks", "uploads", "downloads", "half-closes", "watches", "leaves", "says nothing", "reads slowly", "reads never",
)  # fmt: skip
KINDS = (ASKS, UPLOADS, DOWNLOADS, HALF_CLOSES, WATCHES, LEAVES, SAYS_NOTHING, READS_SLOWLY, READS_NEVER)


class Client:
    """Somebody who connects, says who it is (as a TLS client or not), and goes on after its kind."""

    def __init__(self, world: World, number: int, kind: str, tls: bool) -> None:
        self.world, self.number, self.kind, self.tls = world, number, kind, tls
        rng = world.rng
        self.want = rng.choice((1, 100, 5000)) if kind in (ASKS, WATCHES, LEAVES, HALF_CLOSES) else 1
        if kind in (DOWNLOADS, READS_SLOWLY, READS_NEVER):
            self.want = rng.choice((150_000, 500_000))
        self.upload = rng.choice((150_000, 500_000)) if kind == UPLOADS else rng.choice((0, 50, 3000))
        self.rounds = rng.randint(3, 12) if kind == WATCHES else 1
        self.began = world.kernel.now
        self.first_byte_at = 0.0
        self.over_at = 0.0
        end = connect(world.kernel, "127.0.0.1", ("127.0.0.1", 6443), (64 * 1024, 64 * 1024))
        end.refs += 1
        self.peer = end.local
        self.talk = Talk(world, end, number, upward=True)
        self._greeted = False
        end.told = self._news
        self._wait(world.rng.uniform(0.0, 0.02), self._news)

    @property
    def expected(self) -> int:
        """How much there is to hear, if all is said."""
        return self.want + self.talk.said + self.talk.pending

    def _wait(self, seconds: float, call: object) -> None:
        self.world.kernel.later(seconds, call)  # type: ignore[arg-type]

    def _news(self) -> None:
        talk = self.talk
        if self.over_at:
            return
        if talk.end.gone:
            talk.was_reset = True
            self._over()
            return
        if not talk.end.connected:
            return
        if not self._greeted:
            self._greet()
        if self.kind == READS_NEVER and self.world.kernel.now < self.began + 40:
            return
        if self.kind == READS_SLOWLY:
            self._read_slowly()
        else:
            talk.listen()
        self._heard()

    def _greet(self) -> None:
        self._greeted = True
        if self.kind == SAYS_NOTHING:
            self._wait(self.world.rng.uniform(5, 60), self._leave)
            return
        head = _HEAD.pack(b"ID", self.number, self.want)
        if self.tls:
            body = b"\x03\x03" + head.ljust(32, b"\0") + b"\0\0\x02\x13\x01\x01\0"
            head = (
                b"\x16\x03\x01" + struct.pack("!H", len(body) + 4) + b"\x01" + struct.pack("!I", len(body))[1:] + body
            )
        self.talk.end.write(head)
        self.flight = len(head)
        if not self.tls or self.kind in (HALF_CLOSES, LEAVES):
            self._say_more()
        if self.kind == LEAVES:
            self._wait(self.world.rng.uniform(0.0, 2.0), self._break_off)
        if self.kind == READS_NEVER:
            self._wait(self.world.rng.uniform(20, 60), self._break_off)

    def _say_more(self) -> None:
        self.talk.say(self.upload)
        self.upload = 0
        if self.kind == HALF_CLOSES:
            self._finish_when_said()

    def _finish_when_said(self) -> None:
        if self.talk.pending and not self.talk.was_reset:
            self._wait(0.05, self._finish_when_said)
        else:
            self.talk.finish()

    def _read_slowly(self) -> None:
        if self.talk.listen(20_000) and not self.over_at:
            self._wait(0.05, self._news)

    def _heard(self) -> None:
        talk = self.talk
        if talk.heard and not self.first_byte_at:
            self.first_byte_at = self.world.kernel.now
            if self.tls and self.upload:
                self._say_more()
        if talk.was_reset or talk.closed:
            self._over()
        elif talk.heard >= self.expected and not talk.pending and self._greeted and not self.upload:
            self.rounds -= 1
            if self.rounds > 0:
                self._wait(self.world.rng.uniform(0.5, 15), self._again)
                self.rounds = self.rounds if self.kind == WATCHES else 0
            elif self.kind != HALF_CLOSES:
                talk.finish()

    def _again(self) -> None:
        if not self.over_at:
            self.talk.say(self.world.rng.choice((1, 500, 20_000)))
            self._news()

    def _leave(self) -> None:
        if not self.over_at:
            self.talk.finish()

    def _break_off(self) -> None:
        if not self.over_at:
            self.talk.reset()
            self._over()

    def _over(self) -> None:
        self.over_at = self.world.kernel.now
        self.world.client_over(self)
        if not self.talk.resets and not self.talk.was_reset:
            self.talk.end.refs -= 1
            self.talk.end.released()
