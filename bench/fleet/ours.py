"""A node by lbproxy's rules, which are its own code: pool, health, schedule of checks, reaction, eviction, rebalancing.

What is written here in its place is what touches sockets: a connect that is refused at once or silent for 200 ms, a
handshake that another server is asked for after first_byte_timeout, a check that is answered or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, Final

from bench.fleet.checks import Checks
from bench.fleet.clients import Client
from bench.fleet.world import HUNG, REFUSING, SILENT, Clock, Master
from lbproxy.balance.evidence import CONNECT_FAILED, HELLO_UNANSWERED
from lbproxy.balance.health import Transition
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Lease, Server
from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.reaction import Reaction
from lbproxy.proxy.rebalance import Rebalancer

_STAGGER: Final = 0.2
"""Seconds after which a connect without an answer is overtaken (proxy.dial)."""
_KERNEL: Final = 2.0
"""Seconds after which the kernel has repeated what a client said to a machine that is gone (proxy.vitals)."""


def settings(masters: int, **more: Any) -> ProxyConfig:
    """Return a proxy's settings, the defaults but for `more`."""
    servers = tuple(ServerConfig(address=Address(f"10.0.0.{n + 1}", 6443), name=f"m{n + 1}") for n in range(masters))
    return ProxyConfig(listen=(Address("127.0.0.1", 6443),), servers=servers, **more)


class Session:
    """A client's connection, as far as eviction and rebalancing need one."""

    __slots__ = ("client", "lease", "linked")

    def __init__(self, client: Client, lease: Lease) -> None:
        self.client = client
        self.lease = lease
        self.linked = False

    def cut(self, _reason: str) -> None:
        """Close both sides."""
        self.client.broken()

    def crashed(self) -> None:
        """Be met by a bug."""
        raise AssertionError("a bug")


class Sessions:
    """Those of one node."""

    def __init__(self) -> None:
        self.open: dict[Client, list[Session]] = {}

    def of(self, server: Server) -> Iterator[Session]:
        """Return those that are connected to `server`."""
        found = [each for many in self.open.values() for each in many if each.linked and each.lease.server is server]
        return iter(found)

    def quiet(self, server: Server, seconds: float) -> Iterator[Session]:
        """Return those of `server` whose client has said nothing for so long."""
        return (each for each in self.of(server) if each.client.idle() >= seconds)

    def cut(self, server: Server, reason: str) -> int:
        """Cut every connection to `server`; returns how many."""
        victims = list(self.of(server))
        for each in victims:
            each.cut(reason)
        return len(victims)

    def move_on(self, server: Server) -> None:
        """Turn those elsewhere that have not had a byte: here they do so by themselves."""


class Ours:
    """One node."""

    def __init__(self, clock: Clock, masters: list[Master], config: ProxyConfig, name: str) -> None:
        self._clock = clock
        self._masters: dict[Server, Master] = {}
        self._sessions = Sessions()
        self.pool = Pool(config, name, clock.now)
        self.backend = Backend("p", config, self.pool, self._changed, self._hurry)
        sessions: Any = self._sessions
        poller: Any = clock
        self._reaction = Reaction(poller, self.backend, sessions)
        self._checks: dict[Server, Checks] = {}
        for group, master in zip(self.pool.groups, masters, strict=True):
            self.pool.resolved(group, [(2, (str(group.settings.address.host), 6443))], clock.now)
            server = group.members[0]
            self._masters[server] = master
            self._checks[server] = Checks(clock, self.backend, server, master, name)
        rebalancer = Rebalancer(self.backend, self._sessions.quiet, lambda: True, Random(name))
        clock.at(rebalancer, clock.now)

    def _changed(self, server: Server, transition: Transition) -> None:
        self._reaction.changed(server, transition)

    def _hurry(self, server: Server) -> None:
        self._checks[server].hurry(fresh=server.health.doubted and not server.late)

    def connect(self, client: Client) -> None:
        """Find a master for `client`."""
        _Dial(self, client, client.attempt).go_on()

    def ended(self, client: Client) -> None:
        """Give the places of a connection up."""
        for session in self._sessions.open.pop(client, []):
            session.lease.release()

    def nameless(self) -> None:
        """Hear from the name server, twice a minute, that there is nothing of that name."""
        for group in self.pool.groups:
            self.backend.resolved(group, [], self._clock.now)
        self._clock.call(30.0, self.nameless)

    def unheard(self, master: Master) -> None:
        """Have the kernel notice that a machine is gone, soon after a client has said something to it."""
        for server, each in self._masters.items():
            if each is master:
                for session in self._sessions.of(server):
                    said = session.client.period - session.client.idle()
                    self._clock.call(said + _KERNEL, partial(self._silent, server, master))

    def _silent(self, server: Server, master: Master) -> None:
        if master.state == SILENT and server.connections:
            self.backend.silent(server, self._clock.now)


class _Dial:
    """One client's search for a server."""

    def __init__(self, node: Ours, client: Client, attempt: int) -> None:
        self._node = node
        self._client = client
        self._attempt = attempt
        self._tried: list[Server] = []

    def go_on(self) -> None:
        """Ask the next server, if the client still waits."""
        node, client, clock = self._node, self._client, self._node._clock
        while client.attempt == self._attempt:
            lease = node.pool.pick(clock.now, self._tried)
            if lease is None:
                if not node._sessions.open.get(client):
                    client.refused()
                return
            server = lease.server
            self._tried.append(server)
            master = node._masters[server]
            if master.state == REFUSING:
                lease.release()
                node.backend.saw(server, CONNECT_FAILED, "refused", clock.now, "refused")
                continue
            session = Session(client, lease)
            node._sessions.open.setdefault(client, []).append(session)
            if master.state == SILENT:
                clock.call(_STAGGER, partial(self._overtaken, session))
            else:
                self._wait(session, master)
            return

    def _wait(self, session: Session, master: Master) -> None:
        seconds = master.handshake()
        if seconds != NEVER:
            self._node._clock.call(seconds, partial(self._answered, session, master, self._node._clock.now))
        patience = self._node.backend.settings.first_byte_timeout
        if seconds > patience:
            self._node._clock.call(patience, partial(self._unanswered, session))

    def _overtaken(self, session: Session) -> None:
        if self._client.attempt != self._attempt:
            return
        self._node._sessions.open[self._client].remove(session)
        session.lease.release()
        self._node.backend.saw(session.lease.server, CONNECT_FAILED, "no answer", self._node._clock.now, "overtaken")
        self.go_on()

    def _unanswered(self, session: Session) -> None:
        if self._client.attempt == self._attempt:
            node = self._node
            node.backend.saw(session.lease.server, HELLO_UNANSWERED, "silent", node._clock.now, "silent")
            if not node.pool.only_late_left(node._clock.now, self._tried):
                self.go_on()

    def _answered(self, session: Session, master: Master, began: float) -> None:
        node, client = self._node, self._client
        if client.attempt != self._attempt or master.state in (REFUSING, SILENT, HUNG):
            return
        for other in node._sessions.open[client]:
            if other is not session:
                other.lease.release()
        node._sessions.open[client] = [session]
        session.linked = True
        server = session.lease.server
        server.counts.connections_total += 1
        node.backend.answered(server, began, node._clock.now)
        client.linked(master)
