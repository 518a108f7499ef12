"""One address of one server of one proxy: who it is, what it carries and what is believed of it."""

from __future__ import annotations

from lbproxy.balance.counts import Counts
from lbproxy.balance.health import Health, Rules
from lbproxy.balance.shared import Counted
from lbproxy.balance.state import State
from lbproxy.config.model import ServerConfig
from lbproxy.net.contract import SocketAddress

Endpoint = tuple[int, SocketAddress]
"""An address family and a socket address of it, ready for connect."""


class Server(Counted):
    """A server at one address: its connections, its health and the operator's switch.

    `connections` counts leases, so also connections that are still being made. `endpoint` is where it is dialled; a
    host name that does not resolve has none, and one that has several addresses is several servers (see `group`),
    which have their settings and `counts` in common.
    """

    __slots__ = (
        "_settings",
        "answered_at",
        "backup",
        "certificate_expires",
        "circular",
        "counts",
        "disabled",
        "drained_at",
        "endpoint",
        "health",
        "late",
        "late_at",
        "like_all",
        "manual",
        "max_conns",
        "named_at",
        "nowhere",
        "recovered_at",
        "turn",
        "unproved",
        "weight",
    )

    def __init__(
        self, settings: ServerConfig, rules: Rules | None = None, now: float = 0.0, counts: Counts | None = None
    ) -> None:
        super().__init__()
        self.unproved = rules is not None and rules.interval > 0
        """Whether it must not be used before a check is good: a found one whose checks have never been."""
        self.settings = settings
        self.counts = counts or Counts()
        self.turn = 0
        """How near its turn among equals is; the rotation's to change."""
        self.endpoint: Endpoint | None = None
        self.named_at = now
        """When its name was last known to lead there."""
        self.nowhere = "its name does not resolve"
        """Why it has no endpoint, where it has none."""
        self.circular = ""
        """Why it is not to be dialled although it has one: it leads back here."""
        self.health = Health(rules or Rules(), now)
        self.certificate_expires = 0.0
        """Unix time at which the certificate that it shows to checks is no longer valid; 0 if none was seen."""
        self.late = False
        """Whether the last that was seen of it, by a check or a client, is that an answer has not come in time."""
        self.late_at = -float("inf")
        """When that was last seen."""
        self.like_all = False
        """Whether it is late and no other server was heard to answer meanwhile."""
        self.answered_at = -float("inf")
        """When the last of those that it has answered was asked."""
        self.manual = False
        """Drained by the operator."""
        self.drained_at = 0.0
        """When `manual` was set."""
        self.recovered_at = -float("inf")
        """When it last came up after having been something else; slow_start counts from here."""

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
        self.unproved = self.unproved and not settings.good

    @property
    def name(self) -> str:
        """The configured name, or else the address."""
        return self.settings.name

    @property
    def place(self) -> str:
        """The IP address it is at, where a host name was configured and is known; else empty."""
        endpoint = self.endpoint
        return endpoint[1][0] if endpoint is not None and endpoint[1][0] != self.settings.address.host else ""

    @property
    def label(self) -> str:
        """What the log calls it: its name, and where it is if that is not all."""
        place = self.place
        return f"{self.name} ({place})" if place else self.name

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
        if self.endpoint is None:
            return State.DOWN, self.nowhere, self.health.since
        if self.circular:
            return State.DOWN, self.circular, self.health.since
        if self.unproved and self.health.state is State.UNCHECKED:
            return State.UNCHECKED, "found, and not used before its first good check", self.health.since
        return self.health.state, self.health.reason, self.health.since

    def limit(self) -> int:
        """Return how many connections it may have, 0 for any number: what the other addresses of its name leave."""
        return self.carried() + self.max_conns - self.counts.carried() if self.max_conns else 0

    def failed(self, late: bool, now: float) -> None:
        """Take in that it has failed a check or a client, by being `late` or otherwise."""
        self.late = late
        self.late_at = now if late else self.late_at
        self.like_all = self.like_all and late

    def answered(self, asked_at: float) -> None:
        """Take in that it has answered a check or a client that spoke at `asked_at`."""
        self.late = self.like_all = False
        self.answered_at = max(self.answered_at, asked_at)

    def usable(self) -> bool:
        """Whether it is one to send new connections to."""
        return (
            self.health.state in (State.UP, State.UNCHECKED)
            and self.endpoint is not None
            and not self.circular
            and not self.manual
            and not self.disabled
            and not self.unproved
        )


class Lease:
    """One connection's place at a server, counted from the moment of choice until `release`."""

    __slots__ = ("_held", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self._held = True
        self._count(1)

    def release(self) -> None:
        """Give the place up; a second time does nothing."""
        if self._held:
            self._held = False
            self._count(-1)

    def move(self, server: Server) -> None:
        """Be a place at `server` from now on."""
        self._count(-1)
        self.server = server
        self._count(1)

    def _count(self, by: int) -> None:
        self.server.count(by)
        self.server.counts.count(by)
