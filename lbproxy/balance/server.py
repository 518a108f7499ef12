"""One server of one proxy: who it is, what it carries and what is believed of it."""

from __future__ import annotations

from lbproxy.balance.health import Health, Rules
from lbproxy.balance.histogram import Seconds
from lbproxy.balance.state import State
from lbproxy.config.model import ServerConfig
from lbproxy.net.contract import SocketAddress

Endpoint = tuple[int, SocketAddress]
"""An address family and a socket address of it, ready for connect."""


class Server:
    """A server: plain counters that the data plane increments, its addresses, its health and the operator's switch.

    `connections` counts leases, so also connections that are still being made. `endpoints` are the addresses it is
    dialled at, the one that last worked first; a host name that does not resolve has none.
    """

    __slots__ = (
        "_settings",
        "backup",
        "bytes_in",
        "bytes_out",
        "checks",
        "connect_seconds",
        "connections",
        "connections_total",
        "cuts",
        "disabled",
        "drained_at",
        "endpoints",
        "failures",
        "first_byte_seconds",
        "health",
        "manual",
        "max_conns",
        "recovered_at",
        "replays",
        "transitions",
        "turn",
        "weight",
    )

    def __init__(self, settings: ServerConfig, rules: Rules | None = None, now: float = 0.0) -> None:
        self.settings = settings
        self.turn = 0
        """How near its turn among equals is; the rotation's to change."""
        self.endpoints: list[Endpoint] = []
        self.health = Health(rules or Rules(), now)
        self.manual = False
        """Drained by the operator."""
        self.drained_at = 0.0
        """When `manual` was set."""
        self.recovered_at = -float("inf")
        """When it last came up after having been something else; slow_start counts from here."""
        self.connections = 0
        self.connections_total = 0
        self.bytes_in = 0
        """Of connections that have ended; the live ones know their own."""
        self.bytes_out = 0
        self.failures: dict[str, int] = {}
        self.checks: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self.replays = 0
        self.transitions = 0
        self.connect_seconds = Seconds()
        self.first_byte_seconds = Seconds()

    @property
    def settings(self) -> ServerConfig:
        """What was asked; what every choice asks for stands beside it, since a dataclass is not compiled."""
        return self._settings

    @settings.setter
    def settings(self, settings: ServerConfig) -> None:
        self._settings = settings
        self.backup = settings.backup
        self.disabled = settings.down
        self.max_conns = settings.max_conns
        self.weight = settings.weight

    @property
    def name(self) -> str:
        """The configured name, or else the address."""
        return self.settings.name

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same server across a reload: name and address."""
        return self.settings.name, str(self.settings.address)

    def state(self) -> tuple[State, str, float]:
        """Return its state, the reason, and since when (the clock of `now`s passed in)."""
        if self.disabled:
            return State.DISABLED, "down: true in the configuration", self.health.since
        if self.manual:
            return State.DRAINING, "drained by the operator (lbproxy drain)", self.drained_at
        if not self.endpoints:
            return State.DOWN, "its name does not resolve", self.health.since
        return self.health.state, self.health.reason, self.health.since

    def usable(self) -> bool:
        """Whether it is one to send new connections to."""
        return (
            self.health.state in (State.UP, State.UNCHECKED)
            and bool(self.endpoints)
            and not self.manual
            and not self.disabled
        )

    def failed(self, reason: str) -> None:
        """Count a failed connection attempt."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class Lease:
    """One connection's place at a server, counted from the moment of choice until `release`."""

    __slots__ = ("_held", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self._held = True
        server.connections += 1

    def release(self) -> None:
        """Give the place up; a second time does nothing."""
        if self._held:
            self._held = False
            self.server.connections -= 1
