"""What a seed decides beforehand: how lbproxy is set up, who comes and when, and what happens to whom."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from lbproxy.config.model import HealthConfig
from tests.sim import clients, servers

STATES = (
    servers.SLOW, servers.HUNG, servers.RESETTING, servers.SICK, servers.SHUTTING, servers.GONE, servers.SILENT,
    servers.CLOSING, servers.FULL, servers.HASTY,
)  # fmt: skip
OPERATIONS = (
    "drain", "reload", "rebalance", "stall", "restart", "upgrade", "kill", "shortage", "names",
)  # fmt: skip
_LATE = 5.0
"""Seconds, by which something is done at most after its time."""
LONGEST = {"stall": 4.0, "shortage": 10.0}
HOW = {
    "server": STATES,
    "reload": ("server", "server", "health", "weight"),
    "names": ("fail", "empty", "fewer", "fewer", "fewer"),
    "upgrade": ("", "", "fails"),
}


@dataclass(frozen=True, slots=True)
class Event:
    """What happens at a time: `what` of `operations`, or a server's fate, with whom and how."""

    at: float
    what: str
    who: int = 0
    how: str = ""
    lasts: float = 0.0

    @property
    def takes_out(self) -> str:
        """The name of the server that gets nobody meanwhile by the operator's will, empty if there is none."""
        out = self.what == "drain" or (self.what == "reload" and self.how == "server")
        return f"m{self.who + 1}" if out else ""

    def __str__(self) -> str:
        return f"{self.at:7.2f}  {self.what} {self.how} {self.who}{f' for {self.lasts:.1f} s' if self.lasts else ''}"


@dataclass(frozen=True, slots=True)
class Story:
    """All that a seed decides. `members` has what is configured of each server, `named` how many share a name.

    `room` is how many bytes fit into a socket, each way: mostly more than are copied at once, or nothing would ever be
    left to be spliced.
    """

    seed: int
    members: tuple[tuple[tuple[str, Any], ...], ...]
    named: int
    length: float
    descriptors: int
    room: int
    settings: tuple[tuple[str, Any], ...]
    events: tuple[Event, ...]
    clients: tuple[tuple[float, str, bool], ...]

    @property
    def limited(self) -> bool:
        """Whether a client may have to wait, or be turned away, though a server is well."""
        return self.descriptors < 200 or dict(self.settings)["max_connections"] or any(map(_limited, self.members))

    def in_rotation(self, server: int, begin: float, end: float) -> bool:
        """Whether the operator has left a server alone in that time."""
        group = f"m{1 if server < self.named else server + 1}"
        return not any(
            event.takes_out == group and event.at <= end and event.at + event.lasts + _LATE >= begin
            for event in self.events
        )

    def lines(self) -> list[str]:
        """Return it for a person."""
        first = [
            f"{len(self.members)} servers, {self.named} of one name",
            f"{self.descriptors} descriptors, sockets of {self.room} bytes",
        ]
        first += [f"{dict(self.settings)}", *(f"m{at + 1} {dict(each)}" for at, each in enumerate(self.members))]
        visits = [f"{at:7.2f}  a client that {kind}, {'TLS' if tls else 'no TLS'}" for at, kind, tls in self.clients]
        return [*first, *map(str, self.events), *visits]


def _limited(member: tuple[tuple[str, Any], ...]) -> bool:
    return bool(dict(member)["max_conns"])


def story_of(seed: int) -> Story:
    """Return the story of a seed."""
    rng = Random(seed)
    number, length = rng.choice((2, 3, 3, 3, 5)), rng.uniform(30, 80)
    settings: list[tuple[str, Any]] = [
        ("slow_start", rng.choice((0.0, 10.0))),
        ("on_down", rng.choice(("close", "close", "keep"))),
        ("health", rng.choice((None, *3 * (HealthConfig(type="tcp", interval=rng.choice((1.0, 5.0))),)))),
        ("max_connections", rng.choice((0, 0, 0, 6))),
        ("drain_timeout", rng.choice((1.0, 30.0))),
        ("idle_timeout", rng.choice((20.0, 600.0, 0.0))),
        ("first_byte_timeout", rng.choice((3.0, 3.0, 3.0, 3.0, 0.0))),
        ("tcp_user_timeout", rng.choice((10.0, 3.0))),
        ("proxy_protocol", rng.choice(("off", "off", "off", "v2"))),
    ]
    most, weights = rng.choice((0, 0, 0, 3)), rng.choice(((1,), (1,), (1, 2)))
    members = tuple(
        (("max_conns", most), ("weight", rng.choice(weights)), ("backup", at > 1 and rng.random() < 0.1))
        for at in range(number)
    )
    events = sorted((_event(rng, number, length) for _ in range(rng.randint(0, 12))), key=lambda event: event.at)
    visits = sorted(
        (rng.uniform(0, length), rng.choice(clients.KINDS + (clients.ASKS, clients.WATCHES) * 3), rng.random() < 0.6)
        for _ in range(rng.randint(4, 45))
    )
    named, descriptors, room = rng.choice((0, 2)), rng.choice((600, 600, 600, 40)), rng.choice((64, 128, 160)) * 1024
    return Story(seed, members, named, length, descriptors, room, tuple(settings), tuple(events), tuple(visits))


def _event(rng: Random, number: int, length: float) -> Event:
    what = rng.choice(("server",) * 9 + OPERATIONS)
    lasts = rng.choice((0.1, 2.0, 10.0, 30.0)) * rng.uniform(0.5, 1.5)
    lasts = min(lasts, LONGEST.get(what, lasts))
    return Event(rng.uniform(1, length), what, rng.randrange(number), rng.choice(HOW.get(what, ("",))), lasts)
