"""One lbproxy process in the simulated world: its data plane, what looks after servers, and what outlives it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import Group
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ProxyConfig
from lbproxy.handover.custody import Custody
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import Doors
from lbproxy.net.poller import Poller
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxies import Proxies
from lbproxy.proxy.proxy import Shared
from lbproxy.proxy.session import Session
from tests.sim import calls
from tests.sim.kernel import File, Process, drop
from tests.sim.loop import SimLoop
from tests.sim.tcp import Listener

if TYPE_CHECKING:
    from tests.sim.world import World

NAME = "p"
LISTEN = Address("127.0.0.1", 6443)
FDS = 600


class Ordered(dict[Session, None]):
    """A set that iterates in the order of arrival, so that a seed always tells the same story."""

    def add(self, session: Session) -> None:
        """See `set`."""
        self[session] = None

    def discard(self, session: Session) -> None:
        """See `set`."""
        self.pop(session, None)


class Store:
    """systemd's fd store."""

    def __init__(self) -> None:
        self.held: dict[str, list[File]] = {}

    def store(self, name: str, fds: Sequence[int]) -> None:
        """Hold copies."""
        for fd in fds:
            file = calls.process().file(fd)
            file.refs += 1
            self.held.setdefault(name, []).append(file)

    def forget(self, name: str) -> None:
        """Close what is held under a name."""
        for file in self.held.pop(name, ()):
            drop(file)

    def passed(self, process: Process) -> dict[str, list[int]]:
        """Return what a new process is given."""
        return {name: [process.install(file) for file in files] for name, files in self.held.items()}


class Checks:
    """Checks the addresses of one configured server, in place of `checks.monitor`."""

    def __init__(self, host: Host, backend: Backend, group: Group) -> None:
        self._host, self._backend, self._group = host, backend, group
        self._ended = False
        address = group.settings.address
        backend.resolved(group, [(2, (address.host, address.port))], host.loop.kernel.now)
        self._ask_soon(group.members[0], host.world.rng.uniform(0.0, 0.5))

    def _ask_soon(self, server: Server, seconds: float) -> None:
        self._host.loop.call_later(seconds, self._ask, server)

    def _ask(self, server: Server) -> None:
        if self._ended or self._backend.settings.health is None:
            return
        actor = self._host.world.server_at(self._group.settings.address.host)
        seconds, result = actor.checked()
        self._host.loop.call_later(seconds, self._answered, server, result)

    def _answered(self, server: Server, result: CheckResult) -> None:
        if self._ended:
            return
        self._backend.observe(server, result, self._host.loop.kernel.now)
        health = self._backend.settings.health
        if health is not None:
            self._ask_soon(server, 1.0 if server.health.checked.unsettled else health.interval)

    def found(self, answer: Sequence[Endpoint]) -> None:
        """See `ServerMonitor`, as for the others."""

    def check(self) -> None:
        """Go on as before."""

    def hurry(self, server: Server) -> None:
        """Ask once more, soon."""
        if server.health.checked.state is State.UP:
            self._host.loop.call_later(0.1, self._once, server)

    def _once(self, server: Server) -> None:
        if not self._ended:
            seconds, result = self._host.world.server_at(self._group.settings.address.host).checked()
            self._host.loop.call_later(seconds, self._take, server, result)

    def _take(self, server: Server, result: CheckResult) -> None:
        if not self._ended:
            self._backend.observe(server, result, self._host.loop.kernel.now)

    def stop(self) -> None:
        """Look after it no longer."""
        self._ended = True


class Host:
    """One process; `begin` has it serve with what a predecessor has left."""

    def __init__(self, world: World, config: ProxyConfig) -> None:
        self.world, self.config = world, config
        self.process = Process(world.kernel, FDS)
        self.loop = SimLoop(world.kernel, self.process)
        self.loop.killed = world.died
        self.alive = True
        self.serves = False

    def begin(self, inherited: Inherited) -> None:
        """Take over, listen, and let go on what was taken over."""
        self.poller = Poller(self.loop)
        self.limit = ConnectionLimit(FDS // 4)
        self.proxies = Proxies(Shared(self.poller, self.limit, partial(Checks, self), self._unkept))
        self.custody = Custody(self.proxies, self.poller, inherited, self.world.store)
        self.custody.prepare(200)
        self.proxies.open(NAME, self.config, "node")
        sessions: Any = self.proxy.sessions
        sessions._open = Ordered()
        self.custody.adopt()
        self.listen(inherited)
        self.custody.thaw()
        self.serves = True
        self.loop.call_later(0.1, self._sweep)

    @property
    def proxy(self) -> Any:
        """The only proxy."""
        return self.proxies.named[NAME]

    def listen(self, inherited: Inherited) -> None:
        """Listen on what was inherited, or anew."""
        sock: Any = inherited.listeners.pop(LISTEN, None)
        if sock is None:
            file = Listener(self.world.kernel, (LISTEN.host, LISTEN.port), 64)
            sock = calls.Sock(fileno=self.process.install(file))
            Doors(self.world.store).keep({LISTEN: sock})
        self.proxy.listen(LISTEN, sock)

    def _unkept(self, slot: int) -> None:
        self.custody.forget(slot)

    def _sweep(self) -> None:
        keeper = self.custody._keeper
        if self.alive and keeper is not None and not self.custody.still:
            keeper.sweep(self.world.kernel.now)
        if self.alive:
            self.loop.call_later(1.0, self._sweep)

    def run(self, call: Any) -> None:
        """Do something as this process."""
        self.loop.run_in(call)

    def reload(self, config: ProxyConfig) -> None:
        """Go over to a configuration."""
        self.config = config
        self.proxy.reconcile(config, "node")

    def end(self) -> None:
        """Be no more, however that came about."""
        self.alive = False
        self.loop.kill()
        self.process.end()


def no_such_file(*_: object) -> bytes:
    """Stand for what is not simulated."""
    raise FileNotFoundError(os.strerror(2))
