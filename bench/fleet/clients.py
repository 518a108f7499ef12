"""What runs on a node and has connections: the kubelet, which writes every 10 s, and others, which mostly watch.

They come back as client-go does. What watched begins again 0.8 to 1.6 s after its connection has ended, and waits twice
as long after each failure, up to 30 s. A handshake has 10 s. A connection on which nothing comes is asked after 30 s
(HTTP/2 ping), and given up 15 s later.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Protocol

from bench.fleet.world import HUNG, SILENT, Clock, Master

HANDSHAKE: Final = 10.0
_FIRST: Final = 0.8
_LONGEST: Final = 30.0
_PING: Final = (30.0, 45.0)
LEASE: Final = (10.0, 10.4)
"""Seconds between two renewals of a kubelet's lease: a quarter of 40, and up to a 25th more."""
WATCH: Final = (10.0, 30.0)
"""Seconds for which who only watches says nothing: until its next ping at the latest."""


class Node(Protocol):
    """What stands between the clients of a node and the masters."""

    def connect(self, client: Client) -> None:
        """Find a master; ends in `client.linked` or `client.refused`, unless the client has given up by then."""

    def ended(self, client: Client) -> None:
        """Called when a connection is over, also one that was still looked for."""


class Client:
    """One that wants a connection at all times."""

    __slots__ = ("_clock", "_pause", "_rng", "attempt", "lost_at", "master", "node", "on_loss", "period", "phase")

    def __init__(self, clock: Clock, node: Node, period: tuple[float, float], rng: Random) -> None:
        self.node = node
        self.master: Master | None = None
        self.attempt = 0
        """Grows with each; what belongs to an earlier one is of no interest any more."""
        self.lost_at: float | None = clock.now
        self.on_loss: Callable[[Client], None] = lambda client: None
        self.period = rng.uniform(*period)
        self.phase = rng.uniform(0, self.period)
        self._clock = clock
        self._pause = _FIRST
        self._rng = rng

    def idle(self) -> float:
        """Return the seconds for which it has said nothing."""
        return (self._clock.now - self.phase) % self.period

    def start(self) -> None:
        """Connect, and give that up in time."""
        self.attempt += 1
        attempt = self.attempt
        self._clock.call(HANDSHAKE, lambda: self._give_up(attempt))
        self.node.connect(self)

    def linked(self, master: Master) -> None:
        """Be connected."""
        self.attempt += 1
        self.master = master
        self.lost_at = None
        self._pause = _FIRST
        master.clients[self] = None
        if master.state in (SILENT, HUNG):
            self.unheard()

    def refused(self) -> None:
        """Try again later."""
        self.attempt += 1
        self._clock.call(self._pause * self._rng.uniform(1, 2), self.start)
        self._pause = min(2 * self._pause, _LONGEST)

    def broken(self) -> None:
        """Lose the connection, by a reset from whichever side."""
        if self.master is None:
            return
        self.master.clients.pop(self, None)
        self.master = None
        self.lost_at = self._clock.now
        self.on_loss(self)
        self.node.ended(self)
        self.refused()

    def unheard(self) -> None:
        """Get no answers any more: what HTTP/2 pings find out."""
        self.attempt += 1
        attempt = self.attempt

        def ping() -> None:
            master = self.master
            if self.attempt == attempt and master is not None and master.state in (SILENT, HUNG):
                self.broken()

        self._clock.call(self._rng.uniform(*_PING), ping)

    def _give_up(self, attempt: int) -> None:
        if self.attempt == attempt:
            self.node.ended(self)
            self.refused()
