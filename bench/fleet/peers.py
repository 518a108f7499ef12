"""A node by the rules of others, as their sources have them, with kubespray's settings.

nginx     two workers, each with its own counts. Fewest connections, and among equals smooth weighted round robin,
          which begins with the first of the file. A connect that is refused or has no answer for 1 s makes a server
          avoided for 10 s (whole seconds), then one connection tries it. With all avoided nobody is dialled.
          No checks, and nothing is ever cut.
haproxy   fewest connections, equals in turn, from the first of the file. /healthz every 15 s, 2 of 2. A refused
          connect is redispatched at once, a silent one has 30 s. Who comes back gets his share over 60 s. Nothing
          is cut. (/healthz is 200 while /readyz says [-]shutdown, and as late as it when etcd is slow.)
k3s       one server has all connections: the first of the list that works. Who is found gone within 2.8 s loses
          them to the next one, who keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from bench.fleet.clients import Client
from bench.fleet.world import HUNG, REFUSING, SILENT, SLOW, Clock, Master
from lbproxy.net.timers import NEVER

_WORKERS: Final = 2
_NGINX_TIMEOUT: Final = 1.0
_NGINX_FAIL: Final = 10
_HAPROXY_EVERY: Final = 15.0
_HAPROXY_TIMEOUT: Final = 30.0
_SLOW_START: Final = 60.0
_K3S_SEES: Final = 2.8
"""Seconds, as measured; its own period is 1."""


class Peer:
    """What all have in common: a place for each client, and a handshake that may take its time."""

    def __init__(self, clock: Clock, masters: list[Master], rng: Random) -> None:
        self.clock = clock
        self.masters = masters
        self.rng = rng
        self._leave: dict[Client, Callable[[], None]] = {}

    def ended(self, client: Client) -> None:
        """Give the place of a client up."""
        leave = self._leave.pop(client, None)
        if leave is not None:
            leave()

    def hold(self, client: Client, leave: Callable[[], None]) -> None:
        """Have a place until it ends."""
        self._leave[client] = leave

    def shake_hands(self, client: Client, master: Master) -> None:
        """Wait for the master, as long as the client does."""
        attempt = client.attempt
        seconds = master.handshake()

        def done() -> None:
            if client.attempt == attempt and master.state not in (REFUSING, SILENT, HUNG):
                client.linked(master)

        if seconds != NEVER:
            self.clock.call(seconds, done)


class _Worker:
    """One worker of nginx: its counts, turns and failures."""

    def __init__(self, servers: int) -> None:
        self.connections = [0] * servers
        self.turns = [0] * servers
        self.failed = [False] * servers
        self.checked = [-100] * servers

    def pick(self, tried: set[int], second: int) -> int | None:
        """Return the server for a connection, None with nobody left."""
        able = [
            n for n in range(len(self.turns))
            if n not in tried and not (self.failed[n] and second - self.checked[n] <= _NGINX_FAIL)
        ]  # fmt: skip
        if not able:
            return None
        fewest = min(self.connections[n] for n in able)
        equals = [n for n in able if self.connections[n] == fewest]
        for n in equals:
            self.turns[n] += 1
        best = max(equals, key=lambda n: (self.turns[n], -n))
        self.turns[best] -= len(equals)
        if self.failed[best]:
            self.checked[best] = second
        return best


class Nginx(Peer):
    """nginx stream."""

    def __init__(self, clock: Clock, masters: list[Master], rng: Random) -> None:
        super().__init__(clock, masters, rng)
        self._workers = [_Worker(len(masters)) for _ in range(_WORKERS)]

    def connect(self, client: Client) -> None:
        """Have a worker accept it."""
        self._go_on(client, client.attempt, self.rng.choice(self._workers), set())

    def _go_on(self, client: Client, attempt: int, worker: _Worker, tried: set[int]) -> None:
        self.ended(client)
        while client.attempt == attempt:
            n = worker.pick(tried, int(self.clock.now))
            if n is None:
                client.refused()
                return
            tried.add(n)
            master = self.masters[n]
            if master.state == REFUSING:
                self._failed(worker, n)
                continue
            worker.connections[n] += 1
            self.hold(client, partial(self._release, worker, n))
            if master.state == SILENT:
                self.clock.call(_NGINX_TIMEOUT, partial(self._late, client, attempt, worker, tried, n))
            else:
                worker.failed[n] = False
                self.shake_hands(client, master)
            return

    def _late(self, client: Client, attempt: int, worker: _Worker, tried: set[int], n: int) -> None:
        if client.attempt == attempt:
            self._failed(worker, n)
            self._go_on(client, attempt, worker, tried)

    def _failed(self, worker: _Worker, n: int) -> None:
        worker.failed[n] = True
        worker.checked[n] = int(self.clock.now)

    def _release(self, worker: _Worker, n: int) -> None:
        worker.connections[n] -= 1


class Haproxy(Peer):
    """HAProxy in mode tcp."""

    def __init__(self, clock: Clock, masters: list[Master], rng: Random) -> None:
        super().__init__(clock, masters, rng)
        self._connections = [0] * len(masters)
        self._last = [-1.0] * len(masters)
        self._up = [True] * len(masters)
        self._since = [-_SLOW_START] * len(masters)
        self._agree = [0] * len(masters)
        for n in range(len(masters)):
            clock.call(rng.uniform(0, _HAPROXY_EVERY), partial(self._check, n))

    def _check(self, n: int) -> None:
        master = self.masters[n]
        if master.state not in (REFUSING, SILENT):
            master.checks[int(self.clock.now)] += 1
        well = master.state not in (REFUSING, SILENT, HUNG, SLOW) and master.handshake(check=True) < _HAPROXY_TIMEOUT
        self._agree[n] = 0 if well is self._up[n] else self._agree[n] + 1
        if self._agree[n] == 2:
            self._up[n], self._agree[n] = well, 0
            self._since[n] = self.clock.now
        late = 0.0 if well or master.state == REFUSING else _HAPROXY_TIMEOUT
        self.clock.call(_HAPROXY_EVERY + late, partial(self._check, n))

    def _load(self, n: int) -> float:
        weight = min(1.0, max(0.05, (self.clock.now - self._since[n]) / _SLOW_START))
        return (self._connections[n] + 1) / weight if self._connections[n] else 0.0

    def connect(self, client: Client) -> None:
        """Dial, and another one at once where it is refused."""
        tried: set[int] = set()
        while True:
            able = [n for n in range(len(self.masters)) if self._up[n] and n not in tried]
            if not able:
                client.refused()
                return
            n = min(able, key=lambda n: (self._load(n), self._last[n], n))
            self._last[n] = self.clock.now + len(tried) * 1e-9
            tried.add(n)
            if self.masters[n].state != REFUSING:
                break
        self._connections[n] += 1
        self.hold(client, partial(self._release, n))
        if self.masters[n].state != SILENT:
            self.shake_hands(client, self.masters[n])

    def _release(self, n: int) -> None:
        self._connections[n] -= 1


class K3s(Peer):
    """The balancer in k3s' agent."""

    def __init__(self, clock: Clock, masters: list[Master], rng: Random) -> None:
        super().__init__(clock, masters, rng)
        self._active = 0
        self._here: dict[Client, None] = {}
        clock.call(rng.uniform(0, 1.0), self._look)

    def _look(self) -> None:
        wait = 1.0
        if self.masters[self._active].state in (REFUSING, SILENT):
            working = [n for n, master in enumerate(self.masters) if master.state not in (REFUSING, SILENT)]
            if working:
                wait = _K3S_SEES
                self.clock.call(self.rng.uniform(0, _K3S_SEES), partial(self._move, working[0]))
        self.clock.call(wait, self._look)

    def _move(self, to: int) -> None:
        if self._active != to:
            self._active = to
            for client in list(self._here):
                client.broken()

    def connect(self, client: Client) -> None:
        """Dial the active one, and the others in turn where that is refused."""
        order = [self._active, *(n for n in range(len(self.masters)) if n != self._active)]
        for n in order:
            master = self.masters[n]
            if master.state == REFUSING:
                continue
            self._here[client] = None
            self.hold(client, partial(self._here.pop, client, None))
            if master.state != SILENT:
                self.shake_hands(client, master)
            return
        client.refused()
