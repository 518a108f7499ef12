"""Servers: masters that are well, slow, hung, sick, going, gone, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.state import State
from tests.sim.kernel import Listens
from tests.sim.network import come_back, fall_silent
from tests.sim.talk import HEAD, First, Talk
from tests.sim.tcp import Endpoint

if TYPE_CHECKING:
    from tests.sim.world import World

WELL, SLOW, HUNG, RESETTING, SICK, SHUTTING, GONE, SILENT, CLOSING, FULL, HASTY = (
    "well", "slow", "hung", "resetting", "sick", "shutting", "gone", "silent", "closing", "full", "hasty",
)  # fmt: skip
ANSWERS = (WELL, SLOW, SICK, SHUTTING, FULL, HASTY)
"""In these states clients are served; a full one takes no more of them, a hasty one hears nobody out."""
ENOUGH = 10_000
"""Bytes of what a client says, after which a hasty server closes."""


class Port(Listens):
    """Where a server listens."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def arrived(self, near: object) -> bool:
        """See `Listens`."""
        assert isinstance(near, Endpoint)
        if self._server.state == FULL:
            return False
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
            come_back(kernel, self.host)
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
            fall_silent(kernel, self.host)
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
        wait = {SLOW: 0.7, HUNG: 2.0, SILENT: 2.0, FULL: 2.0}.get(self.state, 0.005)
        if self.state in (WELL, SLOW, HASTY):
            return wait, CheckResult(State.UP, "200", "ok")
        if self.state == SICK:
            return wait, CheckResult(State.SICK, "500", "http_500")
        if self.state == SHUTTING:
            return wait, CheckResult(State.DRAINING, "shutdown", "shutdown")
        return wait, CheckResult(State.DOWN, self.state, "timeout")

    def called(self, near: Endpoint) -> None:
        """Called with a new connection."""
        talk = Talk(self.world, near, -1, upward=False)
        if self.state in (RESETTING, CLOSING):
            seconds = self.world.rng.uniform(0.0, 0.02)
            self.world.kernel.later(seconds, lambda: self._turn_away(talk, reset=self.state == RESETTING))
            return
        self.talks.append(talk)
        near.told = lambda: self._heard(talk)

    def _turn_away(self, talk: Talk, reset: bool) -> None:
        self._peek(talk)
        if reset:
            talk.reset()
        else:
            talk.finish()
            talk.end.refs -= 1
            talk.end.released()

    def _heard(self, talk: Talk) -> None:
        first = None if talk.greeted else self._peek(talk)
        if self.state == HUNG or talk.resets:
            return
        if first is not None and not self._greeted(talk, first):
            if talk.closed or talk.was_reset:
                self._end(talk)
            return
        before = talk.heard
        talk.listen()
        if talk.heard > before:
            self.world.arrived(self.host, talk, talk.heard)
        talk.say(talk.heard - before)
        enough = self.state == HASTY and talk.heard > ENOUGH
        if talk.was_reset or enough or (talk.closed and not talk.pending):
            self._end(talk)

    def _peek(self, talk: Talk) -> First:
        """Have it known what has got here, though it is not read."""
        first = First(talk.end.inbox)
        if first.size:
            talk.client, talk.named = HEAD.unpack(first.head)[1], first.named
            self.world.arrived(self.host, talk, len(talk.end.inbox) - first.size)
        return first

    def _greeted(self, talk: Talk, first: First) -> bool:
        """Take in who is there; whether that is known by now."""
        if not first.size:
            if first.bare:
                talk.closed = talk.end.fin_in
                talk.was_reset = talk.end.gone
            return False
        talk.end.read(first.size)
        talk.greeted = True
        want: int = HEAD.unpack(first.head)[2]
        talk.says, talk.hears = 2 * talk.client + 1, 2 * talk.client
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
