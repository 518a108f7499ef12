"""The servers of one proxy in service: its settings, its pool, and the one door for what is seen of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from lbproxy.balance.checked import LATE, CheckResult
from lbproxy.balance.evidence import ANSWERED, KEPT_WAITING, weigh
from lbproxy.balance.group import Group
from lbproxy.balance.health import Told, Transition
from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.model import ProxyConfig
from lbproxy.net.contract import Socket, SocketAddress

log = logging.getLogger("lbproxy.proxy")

SILENT: Final = "silent"
PROVED: Final = "proved"
TRIED: Final = "tried"
WANTED: Final = "wanted"
LOCATED: Final = "located"
CIRCULAR: Final = "circular"
Sign = CheckResult | TrafficResult | str
"""What is seen of a server: a result, or one of the words above: it acknowledges nothing, it has answered a client, a
suspect is being tried, a client would have needed its address, its name leads elsewhere, it leads
back to this proxy."""


class Backend:
    """What dialling, sessions and checks share of a proxy.

    `on_transition` is called with every change of a server's state, `on_failure` with every failure that traffic has
    met, so that a check can be brought forward or a name looked up again, and `on_resolved` when a name has been looked
    up, with the servers that come and go by it. One that raises keeps neither the others from hearing, nor whoever has
    seen something (a check, a connection) from going on.
    """

    __slots__ = (
        "_preface",
        "_settings",
        "connect_deadline",
        "first_byte_timeout",
        "max_connections",
        "name",
        "on_failure",
        "on_resolved",
        "on_sign",
        "on_transition",
        "pool",
    )

    def __init__(
        self,
        name: str,
        settings: ProxyConfig,
        pool: Pool,
        on_transition: Callable[[Server, Transition], None],
        on_failure: Callable[[Server], None],
        on_resolved: Callable[[list[Server], list[Server]], None] = lambda came, gone: None,
    ) -> None:
        self.name = name
        self.pool = pool
        self.on_transition = on_transition
        self.on_failure = on_failure
        self.on_resolved = on_resolved
        self.on_sign: Callable[[Server, Sign], None] | None = None
        """Called with every sign, where processes share what they see."""
        self._settings = settings
        self._preface = settings.proxy_protocol
        self.connect_deadline = settings.connect_deadline
        self.first_byte_timeout = settings.first_byte_timeout
        self.max_connections = settings.max_connections

    @property
    def settings(self) -> ProxyConfig:
        """What was asked; what every connection asks for stands beside it, since a dataclass is not compiled."""
        return self._settings

    @settings.setter
    def settings(self, settings: ProxyConfig) -> None:
        self._settings = settings
        self._preface = settings.proxy_protocol
        self.connect_deadline = settings.connect_deadline
        self.first_byte_timeout = settings.first_byte_timeout
        self.max_connections = settings.max_connections

    def observe(self, server: Server, seen: CheckResult | TrafficResult, now: float, took: float = 0.0) -> None:
        """Take in what a check (which `took` so many seconds) or a connection has shown of `server`."""
        if isinstance(seen, CheckResult):
            self._pass_on(server, server.health.observe(seen, now, self._compared(server, seen, now, took)))
        else:
            self._pass_on(server, server.health.observe(seen, now))
        self._sign(server, seen)
        if isinstance(seen, TrafficResult) and seen.failure:
            self._hurry(server)

    def resolved(self, group: Group, answer: Sequence[Endpoint], now: float) -> None:
        """Take in where the name of a configured server is, by the resolver."""
        came, gone = self.pool.resolved(group, answer, now)
        self._moved(came, gone)
        if came or gone:
            self._sign(group.members[0], LOCATED)

    def agree(self, group: Group, places: Sequence[Endpoint], now: float) -> None:
        """Have the members of `group` at these places and nowhere else: another process looks up names."""
        self._moved(*self.pool.agree(group, places, now))

    def believe(self, told: Sequence[tuple[Server, Told]]) -> None:
        """Take it from another process how servers are, all of them before anything is done about any."""
        for server, transition in [(server, server.health.believe(each)) for server, each in told]:
            self._pass_on(server, transition)

    def _sign(self, server: Server, seen: Sign) -> None:
        if self.on_sign is not None:
            self.on_sign(server, seen)

    def _compared(self, server: Server, seen: CheckResult, now: float, took: float) -> bool:
        """Return whether a check was late where all are; has those asked soon who help to tell that.

        Who has been found to be late like all stays that until he answers: the others may just be served sooner.
        """
        checked = server.health.checked
        asked: list[Server] = []
        if seen.kind == LATE:
            server.failed(late=True, now=now)
            if not server.like_all or checked.state is not State.SICK:
                server.like_all = self.pool.all_late(server, checked.compared_since(now))
            if server.like_all:
                asked = [other for other in self.pool.servers if other.usable() and not other.late]
        elif seen.state is State.UP:
            server.answered(now - took)
            asked = [other for other in self.pool.servers if other.like_all and other.health.checked.unsettled]
            for other in asked:
                other.like_all = False
        else:
            server.failed(late=False, now=now)
        for other in asked:
            self._hurry(other)
        return server.like_all

    def _moved(self, came: list[Server], gone: list[Server]) -> None:
        if came or gone:
            try:
                self.on_resolved(came, gone)
            except Exception:
                log.exception("%s: who hears of names met a bug", self.name)

    def nobody(self) -> None:
        """Take in that a client has found no server: a name that is not known yet is wanted."""
        for server in self.pool.servers:
            if server.endpoint is None:
                self._hurry(server)
                self._sign(server, WANTED)

    def _hurry(self, server: Server) -> None:
        try:
            self.on_failure(server)
        except Exception:
            log.exception("%s: who hears of failures met a bug", self.name)

    def preface(self, client: Socket, peer: SocketAddress) -> bytes:
        """Return what a server is told of its client before the client's own bytes: a PROXY header, or nothing."""
        version = self._preface
        if version == "off":
            return b""
        from lbproxy.proxy.proxy_protocol import header  # ipaddress, which few need

        return header(version, peer, client.getsockname(), client.family)

    @property
    def check_preface(self) -> bytes:
        """What a server is told first by a check, which has no client: a PROXY header that says so, or nothing."""
        version = self._preface
        if version == "off":
            return b""
        from lbproxy.proxy.proxy_protocol import no_header

        return no_header(version)

    def answered(self, server: Server, spoke_at: float, now: float) -> None:
        """Take in a server's first byte; `spoke_at` is when it was sent a whole ClientHello (NEVER if not)."""
        if not server.health.suspicion.proved:
            server.health.suspicion.proved = True
            self._sign(server, PROVED)
        if server.late:
            server.answered(min(spoke_at, now))
            self._hurry(server)  # whose checks have become rare
        if spoke_at <= now:
            server.counts.first_byte_seconds.add(now - spoke_at)
        if server.health.doubted:
            self.saw(server, ANSWERED, "", now)

    def saw(self, server: Server, seen: int, why: str, now: float, kind: str = "") -> None:
        """Take in what a connection has shown (`balance.evidence`); a failure is counted under the label `kind`."""
        result = weigh(seen, why, server.health.checked.vouches)
        if result is not None:
            if kind:
                server.counts.failed(kind)
            if result.failure:
                server.failed(late=seen in KEPT_WAITING, now=now)
            self.observe(server, result, now)

    def silent(self, server: Server, now: float) -> None:
        """Take in that a server has acknowledged nothing for a while, as the kernel knows it: look at it soon."""
        server.health.checked.silent(now)
        self._hurry(server)
        self._sign(server, SILENT)

    def uncheck(self, server: Server, now: float) -> None:
        """Forget what checks have said of `server`: there are none any more."""
        self._pass_on(server, server.health.forget_checks(now))

    def _pass_on(self, server: Server, transition: Transition | None) -> None:
        if transition is None:
            return
        if transition.new is not transition.old and transition.old is not State.UNCHECKED:
            server.counts.transitions += 1
        if transition.said is State.UP:
            checked = server.health.checked
            server.recovered_at = checked.since if server.unproved else checked.recovered_at
            server.unproved = False
            for other in self.pool.servers:
                if other.like_all:
                    self._hurry(other)  # what has made all of them late may be over
        try:
            self.on_transition(server, transition)
        except Exception:
            log.exception("%s: who hears of changes met a bug", self.name)
