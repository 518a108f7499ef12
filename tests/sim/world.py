"""A seed becomes a story, and the story a world: who comes, what fails, what the operator does, and what must hold."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from lbproxy.config.model import Address, HealthConfig, ProxyConfig, ServerConfig
from lbproxy.handover.inherit import Inherited, from_fds
from tests.sim import calls, clients, rules, servers, talk
from tests.sim.host import Host, Store
from tests.sim.kernel import Kernel
from tests.sim.tcp import come_back, fall_silent

access = logging.getLogger("lbproxy.access")

STATES = (servers.SLOW, servers.HUNG, servers.RESETTING, servers.SICK, servers.SHUTTING, servers.GONE, servers.SILENT)


@dataclass(frozen=True, slots=True)
class Event:
    """What happens at a time: `what` of the operator, the killer or a server's fate, with whom and how."""

    at: float
    what: str
    who: int = 0
    how: str = ""
    lasts: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.2f}  {self.what} {self.how} {self.who}{f' for {self.lasts:.1f} s' if self.lasts else ''}"


@dataclass(frozen=True, slots=True)
class Story:
    """All that a seed decides beforehand."""

    seed: int
    servers: int
    length: float
    settings: tuple[tuple[str, Any], ...]
    events: tuple[Event, ...]
    clients: tuple[tuple[float, str, bool], ...]


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
        ("idle_timeout", rng.choice((20.0, 600.0))),
    ]
    events = sorted((_event(rng, number, length) for _ in range(rng.randint(0, 12))), key=lambda event: event.at)
    visits = sorted(
        (rng.uniform(0, length), rng.choice(clients.KINDS + (clients.ASKS, clients.WATCHES) * 3), rng.random() < 0.6)
        for _ in range(rng.randint(4, 45))
    )
    return Story(seed, number, length, tuple(settings), tuple(events), tuple(visits))


def _event(rng: Random, number: int, length: float) -> Event:
    what = rng.choice(("server",) * 8 + ("drain", "reload", "rebalance", "stall", "restart", "upgrade", "kill"))
    lasts = rng.choice((0.1, 2.0, 10.0, 30.0)) * rng.uniform(0.5, 1.5)
    how = rng.choice(STATES) if what == "server" else ""
    if what == "stall":
        lasts = min(lasts, 4.0)
    return Event(rng.uniform(1, length), what, rng.randrange(number), how, lasts)


class World:
    """Runs a story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.rng = Random(story.seed + 1)
        self.kernel = Kernel(self.rng)
        calls.KERNEL[:] = [self.kernel]
        calls.FATAL.clear()
        self.broken: list[str] = []
        self.servers = [servers.Server(self, number + 1) for number in range(story.servers)]
        self.clients: dict[int, clients.Client] = {}
        self.flights: dict[int, list[talk.Talk]] = {}
        self.seen: dict[int, dict[int, int]] = {}
        """By client and connection to a server: how many bytes came behind its first words."""
        self.reasons: dict[tuple[str, int], str] = {}
        self.lost: set[Any] = set()
        """Clients whose connections were too young to be kept, or without a server, when a process was killed."""
        self.killed: list[set[Any]] = []
        """Clients of all connections there were when a process was killed: any may have had bytes in its hands."""
        self.did: set[str] = set()
        self.done: list[tuple[float, str]] = []
        self.faults: Counter[str] = Counter()
        self.store = Store()
        self.config = self._config(range(story.servers))
        self.host = Host(self, self.config)
        self.hosts = [self.host]
        self.host.run(lambda: self._begin(Inherited()))

    def _config(self, members: Any) -> ProxyConfig:
        servers = tuple(ServerConfig(address=Address(self.servers[at].host, 6443), name=f"m{at + 1}") for at in members)
        plain = ProxyConfig(listen=(Address("127.0.0.1", 6443),), servers=servers)
        return replace(plain, **dict(self.story.settings))

    def _begin(self, inherited: Inherited) -> None:
        self.host.begin(inherited)
        pool = self.host.proxy.backend.pool
        pick = pool.pick

        def watched(now: float, tried: Any = ()) -> Any:
            lease = pick(now, tried)
            rules.picked(self, pool, lease, now, tried)
            return lease

        pool.pick = watched

    # -- what is asked by the rules ------------------------------------------------------------------------------

    def wrong(self, what: str) -> None:
        """Take in that a rule is broken."""
        self.broken.append(f"{self.kernel.now - 1000:9.4f}  {what}")

    def holed(self, peer: Any) -> bool:
        """Whether a client's connection may have been reset since a killed process had bytes of it in its hands."""
        return any(peer in peers for peers in self.killed)

    def server_at(self, host: str) -> servers.Server:
        """Return the server of an address."""
        return next(server for server in self.servers if server.host == host)

    def ever(self, state: str, begin: float, end: float) -> bool:
        """Whether any server was ever in a state in that time."""
        return any(server.ever(state, begin, end) for server in self.servers)

    def fall_silent(self, host: str) -> None:
        """Have a host be unreachable."""
        fall_silent(self.kernel, host)

    def come_back(self, host: str) -> None:
        """Have it be reachable again."""
        come_back(self.kernel, host)

    def flight_arrived(self, server: servers.Server, talk: talk.Talk) -> None:
        """Called when a server has learnt who is there."""
        rules.flight_arrived(self, server, talk)

    def arrived(self, client: int, talk: talk.Talk, more: int) -> None:
        """Called when a client's first words are at a server, with so many bytes behind them."""
        self.seen.setdefault(client, {})[id(talk)] = more

    def client_over(self, client: clients.Client) -> None:
        """Called when a connection is over for its client."""
        rules.client_over(self, client)

    def told(self, record: logging.LogRecord) -> None:
        """Take in a line of the log."""
        if record.name == access.name and isinstance(record.args, tuple):
            host, _, port = str(record.args[1]).rpartition(":")
            self.reasons[host, int(port)] = reason = str(record.args[6])
            rules.cut(self, self.host, str(record.args[2]), reason)
        elif record.exc_info:
            self.wrong(f"a bug: {record.getMessage()}: {record.exc_info[1]!r}")

    # -- the story -----------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Tell it to its end; returns what was wrong."""
        kernel, story = self.kernel, self.story
        for event in story.events:
            kernel.at(1000 + event.at, lambda event=event: self._happens(event))
        for number, (at, kind, tls) in enumerate(story.clients):
            kernel.at(1000 + at, lambda number=number, kind=kind, tls=tls: self._comes(number, kind, tls))
        kernel.run(1000 + story.length + 2)
        for server in self.servers:
            server.become(servers.WELL)
        self.host.run(lambda: [self.host.proxies.set_drain(f"m{at + 1}", False) for at in range(story.servers)])
        kernel.run(kernel.now + 130)
        for at in range(6):
            kernel.later(at * 0.5, lambda at=at: self._comes(10_000 + at, clients.ASKS, tls=True))
        kernel.run(kernel.now + rules.PROMISE + 5)
        rules.well_again(self, self.host)
        for number in range(10_000, 10_006):
            if not self.clients[number].first_byte_at:
                self.wrong(f"client {number} was not served after the last fault")
        for client in list(self.clients.values()):
            if not client.over_at:
                rules.still_there(self, client)
                client._break_off()
        kernel.run(kernel.now + 40)
        for client in self.clients.values():
            rules.judged(self, client)
        rules.at_rest(self, self.host)
        self.broken += [f"an exception: {error!r}" for host in self.hosts for error in host.loop.failures]
        return self.broken

    def _comes(self, number: int, kind: str, tls: bool) -> None:
        self.clients[number] = clients.Client(self, number, kind, tls)

    def _happens(self, event: Event) -> None:
        if event.what != "server" and not self.host.serves:
            self.kernel.later(0.5, lambda: self._happens(event))  # one process has ended, the next one not begun
            return
        self.did.add(event.what)
        self.done.append((self.kernel.now, event.what))
        self.faults[event.how or event.what] += 1
        getattr(self, f"_{event.what}")(event)

    def _server(self, event: Event) -> None:
        server = self.servers[event.who]
        server.become(event.how)
        self.kernel.later(event.lasts, lambda: server.become(servers.WELL))

    def _drain(self, event: Event) -> None:
        name = f"m{event.who + 1}"
        self.host.run(lambda: self.host.proxies.set_drain(name, True))
        self.kernel.later(event.lasts, lambda: self._ready(name))

    def _ready(self, name: str) -> None:
        self.done.append((self.kernel.now, "ready"))
        if not self.host.serves:
            self.kernel.later(0.5, lambda: self._ready(name))
            return
        self.host.run(lambda: self.host.proxies.set_drain(name, False))

    def _reload(self, event: Event) -> None:
        stay = [at for at in range(self.story.servers) if at != event.who]
        self._go_over(self._config(stay))
        self.kernel.later(event.lasts, lambda: self._go_over(self._config(range(self.story.servers))))

    def _go_over(self, config: ProxyConfig) -> None:
        self.done.append((self.kernel.now, "reload"))
        if not self.host.serves:
            self.kernel.later(0.5, lambda: self._go_over(config))
            return
        self.config = config
        self.host.run(lambda: self.host.reload(config))

    def _rebalance(self, event: Event) -> None:
        self.host.run(lambda: self.host.proxy.rebalance(dry_run=False))

    def _stall(self, event: Event) -> None:
        self.host.loop.stall(event.lasts)

    def _restart(self, event: Event) -> None:
        """Leave everything to the next process, which finds it in the fd store."""
        left: list[bool] = []
        self.host.run(lambda: left.append(self.host.custody.leave()))
        if left != [True]:
            self.wrong("a restart has left nothing")
        self._next_after(self.rng.uniform(0.1, 0.4))

    def _kill(self, event: Event) -> None:
        """End the process as SIGKILL does: what it has in its hands is lost, and the marks say so.

        Every other time it has something in its hands: it is killed between a read and the write.
        """
        if self.rng.random() < 0.5:
            calls.FATAL[:] = [self.rng.randrange(6)]
            self.kernel.later(5.0, lambda: self.died() if calls.FATAL and self.host.serves else calls.FATAL.clear())
        else:
            self.died()

    def died(self) -> None:
        """Called when the process was killed."""
        calls.FATAL.clear()
        sessions = list(self.host.proxies.sessions())
        self.killed.append({each.peer for each in self.host.proxies.sessions()})
        self.lost |= {each.peer for each in sessions if each.link is None or not each.link.kept}
        self._next_after(self.rng.uniform(0.1, 0.4))

    def _next_after(self, seconds: float) -> None:
        config = self.config
        self.host.end()
        self.host = Host(self, config)
        self.hosts.append(self.host)
        self.kernel.later(seconds, self._take_from_store)

    def _take_from_store(self) -> None:
        self.host.run(lambda: self._begin(from_fds(self.store.passed(self.host.process))))

    def _upgrade(self, event: Event) -> None:
        """Hand everything over while both processes are there."""
        old, new = self.host, Host(self, self.config)
        parcels: list[Any] = []
        old.run(lambda: parcels.extend(old.custody.freeze()))
        state: list[Any] = []
        old.run(lambda: state.append(old.custody.state()))
        for parcel in parcels:
            parcel.client_fd = new.process.install(old.process.file(parcel.client_fd))
            if parcel.server_fd >= 0:
                parcel.server_fd = new.process.install(old.process.file(parcel.server_fd))
        inherited = Inherited(rested=parcels, state=state[0])
        if state[0].get("carrier"):
            inherited.queues = [state[0]["carrier"]]

        def take() -> None:
            for address, sock in old.custody.listeners().items():
                fd = new.process.install(old.process.file(sock.fileno()))
                inherited.listeners[address] = calls.Sock(fileno=fd)  # type: ignore[assignment]
            if old.custody.marks is not None:
                from lbproxy.handover.marks import Marks

                inherited.marks = Marks(new.process.install(old.process.file(old.custody.marks.fd)))
            self.host = new
            self.hosts.append(new)
            self._begin(inherited)

        new.run(take)
        old.end()
