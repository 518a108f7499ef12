"""What happens to the masters, and what is counted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

from bench.fleet.clients import LEASE, WATCH, Client, Node
from bench.fleet.ours import Ours, settings
from bench.fleet.peers import Haproxy, K3s, Nginx
from bench.fleet.world import DRAINING, HUNG, NAMES_GONE, REFUSING, SILENT, SLOW, UP, Clock, Master
from lbproxy.config.model import HealthConfig

RULES: Final = ("nginx", "haproxy", "k3s", "lbproxy")
_WARM: Final = 120.0
"""Seconds before anything happens."""


class Fleet:
    """Nodes of one kind, each with some clients, before masters of one capacity."""

    def __init__(
        self, rules: str, nodes: int, *, masters: int = 3, clients: tuple[int, int] = (2, 6), rate: float = 1000.0,
        one_queue: bool = False, boot: float = 60.0, seed: int = 1, **more: Any,
    ) -> None:  # fmt: skip
        """`boot` is over how many seconds the nodes come up, `rate` handshakes a second of each master."""
        self.clock = Clock()
        self.masters = [Master(self.clock, f"m{n + 1}", rate, one_queue) for n in range(masters)]
        self.clients: list[Client] = []
        self.nodes: list[Node] = []
        self.waits: list[float] = []
        """Seconds that each client was without a connection, each time."""
        self._rng = Random(f"{rules} {seed}")
        self._config = settings(masters, **{"health": HealthConfig(), **more})
        for number in range(nodes):
            self.clock.call(self._rng.uniform(0, boot), partial(self._boot, rules, f"node{seed}-{number}", clients))

    def _boot(self, rules: str, name: str, clients: tuple[int, int]) -> None:
        node: Node
        if rules == "lbproxy":
            node = Ours(self.clock, self.masters, self._config, name)
        else:
            node = {"nginx": Nginx, "haproxy": Haproxy, "k3s": K3s}[rules](self.clock, self.masters, self._rng)
        self.nodes.append(node)
        for number in range(self._rng.randint(*clients)):
            client = Client(self.clock, node, LEASE if number == 0 else WATCH, self._rng)
            self.clients.append(client)
            self.clock.call(self._rng.uniform(0, 2.0), client.start)

    def turn(self, number: int, state: str) -> None:
        """Have a master be in another state."""
        if state == NAMES_GONE:
            for node in self.nodes:
                if isinstance(node, Ours):
                    node.nameless()
            return
        master = self.masters[number]
        master.turn(state)
        if state == SILENT:
            for node in self.nodes:
                if isinstance(node, Ours):
                    node.unheard(master)

    def served(self) -> int:
        """Return how many clients have a connection to a master that answers."""
        return sum(c.master is not None and c.master.state not in (SILENT, HUNG) for c in self.clients)

    def imbalance(self) -> float:
        """Return how many times the mean the busiest master has, of those that work."""
        counts = [len(master.clients) for master in self.masters if master.state not in (REFUSING, SILENT, HUNG)]
        return max(counts) * len(counts) / sum(counts) if sum(counts) else 0.0


class Scenario(NamedTuple):
    """What happens, second by second: who becomes what; and for how long it is looked at."""

    events: Sequence[tuple[float, int, str]]
    lasts: float
    boot: float = 60.0


def _rolling(pause: float) -> list[tuple[float, int, str]]:
    """Return an upgrade of three masters, one after another: 20 s of [-]shutdown, 40 s gone, then up."""
    return [
        event
        for n in range(3)
        for event in ((n * pause, n, DRAINING), (n * pause + 20, n, REFUSING), (n * pause + 60, n, UP))
    ]


SCENARIOS: Final[dict[str, Scenario]] = {
    "cold boot": Scenario([], 300, boot=20.0),
    "dies": Scenario([(0, 0, REFUSING)], 900),
    "vanishes": Scenario([(0, 0, SILENT)], 900),
    "hangs": Scenario([(0, 0, HUNG)], 900),
    "turns sick": Scenario([(0, 0, SLOW)], 300),
    "drains": Scenario([(0, 0, DRAINING)], 300),
    "returns": Scenario([(0, 0, REFUSING), (120, 0, UP)], 900),
    "rolling upgrade": Scenario(_rolling(120), 900 + 300),
    "name server gone, a master dies": Scenario([(0, 0, NAMES_GONE), (60, 0, REFUSING)], 900),
    "slow everywhere": Scenario([(0, n, SLOW) for n in range(3)] + [(120, n, UP) for n in range(3)], 300),
}


class Outcome(NamedTuple):
    """What came of a scenario, from its beginning, second by second."""

    connects: list[list[int]]
    """By master."""
    checks: list[list[int]]
    handshakes: list[list[int]]
    """Of checks."""
    served: list[int]
    imbalance: list[float]
    clients: int


def play(scenario: Scenario, fleet: Fleet, seen: Callable[[float], None] = lambda second: None) -> Outcome:
    """Let it happen, and look each second."""
    start = 0.0 if scenario.boot < _WARM / 4 else _WARM
    for when, number, state in scenario.events:
        fleet.clock.call(start + when, partial(fleet.turn, number, state))
    fleet.clock.run(start)
    served: list[int] = []
    imbalance: list[float] = []
    for second in range(int(scenario.lasts)):
        fleet.clock.run(start + second + 1)
        served.append(fleet.served())
        imbalance.append(fleet.imbalance())
        seen(second)
    span = range(int(start), int(start + scenario.lasts))
    return Outcome(
        connects=[[master.connects[second] for second in span] for master in fleet.masters],
        checks=[[master.checks[second] for second in span] for master in fleet.masters],
        handshakes=[[master.check_handshakes[second] for second in span] for master in fleet.masters],
        served=served,
        imbalance=imbalance,
        clients=len(fleet.clients),
    )
