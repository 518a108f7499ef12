"""A seed becomes a story, and the story a world, in which rules must hold."""

from __future__ import annotations

import logging
from collections import Counter
from random import Random
from typing import Any

from lbproxy.handover.inherit import Inherited
from lbproxy.relay.link import ENDED
from tests.sim import calls, clients, rules, servers, talk
from tests.sim.host import LISTEN, Host
from tests.sim.kernel import Kernel
from tests.sim.operations import Operations
from tests.sim.story import Event, Story
from tests.sim.tcp import Endpoint

access = logging.getLogger("lbproxy.access")

BOUND = 130.0
"""Seconds after the last fault, within which all is well again: what was down and has flapped must be good for long."""


class World:
    """Runs a story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.rng = Random(story.seed + 1)
        self.kernel = Kernel(self.rng)
        self.kernel.partial, self.kernel.room = 1 / 16, story.room
        calls.KERNEL[:] = [self.kernel]
        self.broken: list[str] = []
        self.servers = [servers.Server(self, number + 1) for number in range(len(story.members))]
        self.clients: dict[int, clients.Client] = {}
        self.flights: dict[int, list[talk.Talk]] = {}
        """By client: where its first words have got to."""
        self.ends: dict[tuple[str, int], rules.End] = {}
        """By the address of a client: what was said of its end."""
        self.lost: set[Any] = set()
        """Clients whose connections were too young to be kept, without a server or just ended when one was killed."""
        self.killed: list[set[Any]] = []
        """Clients of all connections there were when a process was killed: any may have had bytes in its hands."""
        self.did: set[str] = set()
        self.done: list[tuple[float, str]] = []
        self.faults: Counter[str] = Counter()
        self.operations = Operations(self)
        self.hosts: list[Host] = []
        self.new_host(Host(self, self.operations.store, self.operations.config()))
        self.host.run(lambda: self.begin(Inherited()))

    @property
    def config(self) -> Any:
        """What is in force."""
        return self.host.config

    def new_host(self, host: Host) -> None:
        """Have a process be the one."""
        self.host = host
        self.hosts.append(host)

    def begin(self, inherited: Inherited) -> None:
        """Have the process at hand serve."""
        self.host.begin(inherited)
        pool = self.host.proxy.backend.pool
        pick = pool.pick

        def watched(now: float, tried: Any = ()) -> Any:
            lease = pick(now, tried)
            rules.picked(self, pool, lease, now, tried)
            return lease

        pool.pick = watched

    # -- what is asked by the rules, and told to them ------------------------------------------------------------

    def wrong(self, what: str) -> None:
        """Take in that a rule is broken."""
        self.broken.append(f"{self.kernel.now - 1000:9.4f}  {what}")

    def note(self, what: str) -> None:
        """Take in that something was done to lbproxy."""
        self.did.add(what)
        self.done.append((self.kernel.now, what))

    def holed(self, peer: Any) -> bool:
        """Whether a client's connection may have been reset since a killed process had bytes of it in its hands."""
        return any(peer in peers for peers in self.killed)

    def killed_now(self) -> None:
        """Take in that the process at hand is killed."""
        sessions = list(self.host.proxies.sessions())
        files = self.host.process.files.values()
        here = (LISTEN.host, LISTEN.port)
        peers = {file.remote for file in files if isinstance(file, Endpoint) and file.local == here}
        links = [(each.peer, each.link) for each in sessions if each.link is not None]
        kept = {peer for peer, link in links if link.kept and link.state != ENDED}
        self.killed.append(peers)
        self.lost |= (peers | {peer for peer, link in links if link.state == ENDED}) - kept

    def arrived(self, server: str, talk: talk.Talk, more: int) -> None:
        """Take in that a client's first words are at a server, with `more` bytes behind them."""
        rules.arrived(self, server, talk, more)

    def client_over(self, client: clients.Client) -> None:
        """Take in that a connection is over for its client."""
        rules.client_over(self, client)

    def told(self, record: logging.LogRecord) -> None:
        """Take in a line of the log."""
        if record.name == access.name and isinstance(record.args, tuple):
            host, _, port = str(record.args[1]).rpartition(":")
            _, _, server, _, to_server, to_client, reason = record.args
            self.ends[host, int(port)] = rules.End(str(reason), int(str(to_server)), int(str(to_client)))
            rules.cut(self, self.host, str(server), str(reason))
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
        kernel.run(1000 + max([story.length, *(event.at + event.lasts for event in story.events)]) + 2)
        for server in self.servers:
            server.become(servers.WELL)
        self._settle(BOUND)
        for at in range(6):
            kernel.later(at * 0.5, lambda at=at: self._comes(10_000 + at, clients.ASKS, tls=True))
        kernel.run(kernel.now + 3)
        self._settle(rules.PROMISE)
        rules.well_again(self, self.host)
        for client in list(self.clients.values()):
            if not client.over_at:
                rules.still_there(self, client)
                client._break_off()
        kernel.run(kernel.now + 15)
        for client in self.clients.values():
            rules.judged(self, client)
        rules.at_rest(self, self.host)
        self.broken += [f"an exception: {error!r}" for host in self.hosts for error in host.loop.failures]
        return self.broken

    def _settle(self, bound: float) -> None:
        """Wait until servers are up again, clients have gone and nobody is about to be killed, for so long at most."""
        end = self.kernel.now + bound
        while self.kernel.now < end and not (
            self.host.serves
            and self.host.process.fatal < 0
            and rules.is_well(self, self.host)
            and all(each.over_at for each in self.clients.values())
        ):
            self.kernel.run(self.kernel.now + 2)

    def _comes(self, number: int, kind: str, tls: bool) -> None:
        self.clients[number] = clients.Client(self, number, kind, tls)

    def _happens(self, event: Event) -> None:
        if event.what != "server" and (not self.host.serves or self.host.loop.stalled):
            self.kernel.later(0.5, lambda: self._happens(event))  # one process has ended, or does nothing now
            return
        self.note(event.what)
        self.faults[f"{event.what} {event.how}".strip()] += 1
        getattr(self.operations, event.what)(event)
