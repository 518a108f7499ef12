"""What is configured under one name: one server for each address that the name has.

Each address is chosen, checked and held to account as a server of its own, for it is a machine of its own; what the
operator has named is shown and switched as one. A server that is given as an IP address is a group of one for ever. A
name that was never known has one member without an endpoint, which is never chosen.

An answer has some of the addresses more often than it has fewer masters: some name servers give a few in turn, one of
several is behind the others. So an address is a member until no answer has had it for MISSED. Until then its checks,
and clients, say whether it is one to use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lbproxy.balance.counts import Counts
from lbproxy.balance.health import Rules
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.state import SEVERITY, State
from lbproxy.config.model import ServerConfig

MISSED: Final = 300.0
"""Seconds without being in any answer after which an address is none of the name's any more: some ten look-ups."""


class Group:
    """The members of one configured server, and what they have in common."""

    __slots__ = ("counts", "members", "rules", "settings")

    def __init__(self, settings: ServerConfig, rules: Rules, now: float) -> None:
        self.settings = settings
        self.rules = rules
        self.counts = Counts()
        self.members: list[Server] = [self.make(None, now)]

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same across a reload: name and address, as configured."""
        return self.settings.name, str(self.settings.address)

    def configure(self, settings: ServerConfig, rules: Rules) -> None:
        """Go over to new settings; nothing is lost."""
        self.settings = settings
        self.rules = rules
        for server in self.members:
            server.settings = settings
            server.health.rules = rules
            server.unproved = server.unproved and rules.interval > 0

    def make(self, endpoint: Endpoint | None, now: float) -> Server:
        """Return a server that shares all with the members, and is none yet."""
        server = Server(self.settings, self.rules, now, self.counts)
        server.endpoint = endpoint
        return server

    def resolved(self, answer: Sequence[Endpoint], now: float) -> tuple[list[Server], list[Server]]:
        """Take in where the name is; returns the members that come (or have an address at last) and those that go.

        An empty answer says nothing: the last known addresses stay. So do those, for a while, that this one lacks.
        """
        if not answer:
            return [], []
        missing = [server.endpoint for server in self.members if server.endpoint and now - server.named_at < MISSED]
        return self.agree([*answer, *missing], answer, now)

    def agree(
        self, places: Sequence[Endpoint], answer: Sequence[Endpoint], now: float
    ) -> tuple[list[Server], list[Server]]:
        """Have a member at each of `places`, of which `answer` has had some; returns those that come and that go."""
        first = self.members[0]
        known = {server.endpoint: server for server in self.members}
        came: list[Server] = []
        self.members = []
        for endpoint in dict.fromkeys(places):
            server = known.pop(endpoint, None)
            if server is None:
                server = known.pop(None, None) or self.make(None, now)
                server.endpoint = endpoint
                server.manual, server.drained_at = first.manual, first.drained_at
                came.append(server)
            if endpoint in answer:
                server.named_at = now
            self.members.append(server)
        return came, list(known.values())

    def state(self) -> tuple[State, str, float]:
        """Return the state of the best member, a reason that names those that differ, and since when."""
        states = [server.state() for server in self.members]
        best, reason, since = min(states, key=_severity)
        if len(states) == 1 or (best is State.UP and all(state is best for state, _, _ in states)):
            return best, reason, since
        if all(state is best and why == reason for state, why, _ in states):
            return best, reason, since
        alike = sum([state is best for state, _, _ in states])
        told = [f"{alike} of {len(states)} addresses {best}"]
        for server, (state, why, _) in zip(self.members, states, strict=True):
            if state is not best:
                told.append(f"{server.place} {state}: {why}")
            elif best is not State.UP:
                told.append(f"{server.place}: {why}")
        return best, "; ".join(told), since


def _severity(state: tuple[State, str, float]) -> int:
    return SEVERITY[state[0]]
