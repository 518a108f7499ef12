"""The servers of one proxy, and which of them gets the next connection.

Servers stand in tiers, and only when no server of a tier can take the connection is the next one looked at:

    PRIMARY    up (or not checked yet, or suspect and due for its one trial)
    SLOWLY     up, but still within slow_start and not lucky this time
    ALIVE      up, but all that is known is that it lives: it wants a login before it says whether it is ready
    BACKUP     up, a backup
    SICK       the server answers, and says that it cannot serve
    DRAINING   by its own word: it is about to go
    SUSPECT    clients have found it down; of several first those that have ever answered one, and of these the one
               whose last failure is longest ago, for the emptiest may just be the worst
    DOWN       nothing better is left, and what is remembered may be out of date

so that memory is a preference and never a reason to refuse; with every server down all of them are tried. Never
picked at all: `down: true`, drained by the operator, full (max_conns), without an address, leading back here, or found
(`servers_from`) and without a good check so far.

Within a tier the fewest connections per weight win, and equals take turns (`rotation`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Final

from lbproxy.balance.group import Group
from lbproxy.balance.health import Rules
from lbproxy.balance.rotation import ring, take_turn
from lbproxy.balance.server import Endpoint, Lease, Server
from lbproxy.balance.shared import Shares
from lbproxy.balance.state import SEVERITY, State
from lbproxy.config.model import ProxyConfig

PRIMARY: Final = 0
SLOWLY: Final = 1
ALIVE: Final = 2
BACKUP: Final = 3
SICK: Final = 4
DRAINING: Final = 5
SUSPECT: Final = 6
DOWN: Final = 7
NEVER: Final = 8

_USABLE: Final = SEVERITY[State.UNCHECKED]
"""The severity up to which a server is to be sent new connections."""
_JUST_NOW: Final = 10.0
"""Seconds: as long as a client of Kubernetes waits for a handshake."""
_TIERS: Final = {State.SICK: SICK, State.DRAINING: DRAINING, State.DOWN: DOWN}


def rules_of(settings: ProxyConfig) -> Rules:
    """Return the counts and times by which the health of the servers of a proxy is judged."""
    health = settings.health
    return Rules(
        rise=health.rise if health else 1,
        fall=health.fall if health else 1,
        interval=health.interval if health else 0.0,
        max_fails=settings.max_fails,
        fail_timeout=settings.fail_timeout,
    )


class Pool:
    """The servers of one proxy, in groups. `node_id` seeds the order of equals, `rng` the luck of slow_start."""

    def __init__(self, settings: ProxyConfig, node_id: str, now: float, rng: Random | None = None) -> None:
        self._slow_start = settings.slow_start
        self._rng = rng or Random(node_id)  # noqa: S311 (spreads load, guards nothing)
        self.groups: list[Group] = []
        """What is configured, in the order of the file."""
        self._members: list[Server] = []
        self._stale = True  # the two around this, for which groups have others by now
        self._ring: list[Server] = []
        self._ring_of: object = None
        self.shares: Shares | None = None
        """What other processes choose by too, if there are any."""
        self.on_trial: Callable[[Server], None] | None = None
        """Called with a suspect that is being tried."""
        self.node_id = node_id
        """Seeds the order of equals, and the times of checks."""
        self.reconcile(settings, node_id, now)

    def reconcile(self, settings: ProxyConfig, node_id: str, now: float) -> tuple[list[Group], list[Group]]:
        """Go over to new settings: returns the groups added and the ones removed. Those that stay keep everything."""
        rules = rules_of(settings)
        self._slow_start = settings.slow_start
        self.node_id = node_id
        kept = {group.key: group for group in self.groups}
        added: list[Group] = []
        self.groups = []
        for wanted in settings.servers:
            group = kept.pop((wanted.name, str(wanted.address)), None)
            if group is None:
                group = Group(wanted, rules, now)
                added.append(group)
            group.configure(wanted, rules)
            self.groups.append(group)
        self._stale = True
        return added, list(kept.values())

    def resolved(self, group: Group, answer: Sequence[Endpoint], now: float) -> tuple[list[Server], list[Server]]:
        """Take in where the name of `group` is; returns the servers that come and those that go, as it does."""
        came, gone = group.resolved(answer, now)
        if came or gone:
            self._stale = True
        return came, gone

    def agree(self, group: Group, places: Sequence[Endpoint], now: float) -> tuple[list[Server], list[Server]]:
        """Have the members of `group` at exactly these places; returns the servers that come and those that go."""
        if [server.endpoint for server in group.members] == list(places):
            return [], []
        self._stale = True
        return group.agree(places, places, now)

    @property
    def servers(self) -> list[Server]:
        """The members of all groups."""
        if self._stale:
            self._line_up()
        return self._members

    def _line_up(self) -> None:
        """Put the members of all groups in order, once after any number of changes: it takes time with the number."""
        self._stale = False
        self._members = [server for group in self.groups for server in group.members]
        # The servers themselves: one that was removed and is there again is another one.
        ring_of = (self.node_id, [(server, server.place, server.weight) for server in self._members])
        if ring_of != self._ring_of:
            self._ring_of = ring_of
            self._ring = ring(self._members, self.node_id)
            for _ in range(self.shares.mine if self.shares is not None and self._ring else 0):
                take_turn(self._ring)  # each process begins one server further on

    @property
    def ring(self) -> list[Server]:
        """The members of all groups in this node's order."""
        if self._stale:
            self._line_up()
        return self._ring

    def find(self, name: str) -> Group | None:
        """Return what is configured under that name or address."""
        for group in self.groups:
            if name in group.key:
                return group
        return None

    def pick(self, now: float, tried: Collection[Server] = ()) -> Lease | None:
        """Choose a server not in `tried` and count the connection in; None if none is left.

        A suspect server that is due for its trial is thereby on trial.
        """
        shares = self.shares
        if shares is None or not self._tight(shares.size):
            return self._pick(now, tried)
        shares.guard.take()
        try:
            return self._pick(now, tried)
        finally:
            shares.guard.release()

    def _tight(self, processes: int) -> bool:
        """Whether as many more connections as there are processes would be too many for a server."""
        for server in self._members:
            if server.max_conns and server.counts.carried() + processes > server.max_conns:
                return True
        return False

    def _pick(self, now: float, tried: Collection[Server]) -> Lease | None:
        equals: list[Server] = []
        best_tier = NEVER
        best_load = 0.0
        if self._stale:
            self._line_up()
        for server in self._ring:
            if server in tried:
                continue
            tier = self._tier(server, now)
            if tier > best_tier or tier == NEVER:
                continue
            load = server.carried() / server.weight if tier != SUSPECT else server.health.suspicion.rank()
            if tier < best_tier or load < best_load:
                equals = [server]
                best_tier, best_load = tier, load
            elif load == best_load:
                equals.append(server)
        if not equals:
            return None
        best = equals[0] if len(equals) == 1 else take_turn(equals)
        if best.health.severity and best.health.may_be_tried(now):
            best.health.suspicion.begin_trial(now)
            if self.on_trial is not None:
                self.on_trial(best)
        return Lease(best)

    def _tier(self, server: Server, now: float) -> int:
        full = server.max_conns and server.counts.carried() >= server.max_conns
        if server.disabled or server.manual or full or server.endpoint is None or server.circular or server.unproved:
            return NEVER
        health = server.health
        if health.severity > _USABLE and not health.may_be_tried(now):
            if health.suspicion.suspected and health.checked.state is not State.DOWN:
                return SUSPECT
            return _TIERS[health.checked.state]
        if server.backup:
            return BACKUP
        if not health.checked.sure:
            return ALIVE
        since = now - server.recovered_at
        return SLOWLY if 0.0 <= since < self._slow_start and self._rng.random() > since / self._slow_start else PRIMARY

    def only_late_left(self, now: float, tried: Collection[Server]) -> bool:
        """Whether all that could be picked but those in `tried` were late just now: nobody is served sooner there."""
        left = [server for server in self.servers if server not in tried and (server.late or server.usable())]
        return bool(left) and all(server.late and now - server.late_at < _JUST_NOW for server in left)

    def all_late(self, server: Server, since: float) -> bool:
        """Whether there are others that could be asked, and none has answered since: then late is not this one's fault.

        Who refuses, or says by himself how he is, is none to be compared with.
        """
        others = [other for other in self.servers if other is not server and (other.late or other.usable())]
        return bool(others) and all(other.answered_at < since for other in others)

    def others_up(self, server: Server) -> bool:
        """Whether a server other than this one is up, to take over what is moved off it."""
        return any(other.usable() for other in self.servers if other is not server)
