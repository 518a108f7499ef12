"""One lbproxy process in the simulated world: its data plane, what looks after servers, and what outlives it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lbproxy.config.model import Address, ProxyConfig
from lbproxy.handover.custody import Custody
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import Doors
from lbproxy.net.poller import Poller
from lbproxy.proxy.listener import ConnectionLimit
from lbproxy.proxy.proxies import Proxies
from lbproxy.proxy.proxy import Shared
from tests.sim import calls, shims
from tests.sim.kernel import File, Process, drop
from tests.sim.loop import SimLoop
from tests.sim.monitor import Monitor
from tests.sim.network import Listener

if TYPE_CHECKING:
    from tests.sim.world import World

NAME = "p"
LISTEN = Address("127.0.0.1", 6443)


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


class Host:
    """One process; `begin` has it serve with what a predecessor has left."""

    def __init__(self, world: World, store: Store, config: ProxyConfig) -> None:
        self.world, self.store, self.config = world, store, config
        self.process = Process(world.kernel, world.story.descriptors)
        self.loop = SimLoop(world.kernel, self.process)
        self.loop.killed = partial(world.operations.died, self)
        self.alive = True
        self.serves = False

    def begin(self, inherited: Inherited) -> None:
        """Take over, listen, and let go on what was taken over."""
        self.poller = Poller(self.loop)
        self.limit = ConnectionLimit(0)
        self.proxies = Proxies(Shared(self.poller, self.limit, partial(Monitor, self), self._unkept))
        self.custody = Custody(self.proxies, self.poller, inherited, self.store)
        self.limit.measure(self.poller.pipes, self.custody.inherited)
        self.custody.prepare(200)
        self.proxies.open(NAME, self.config, "node")
        sessions: Any = self.proxy.sessions
        sessions._open = shims.Ordered()
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
            Doors(self.store).keep({LISTEN: sock})
        self.proxy.listen(LISTEN, sock)

    def _unkept(self, slot: int) -> None:
        self.custody.forget(slot)

    def _sweep(self) -> None:
        if self.alive:
            self.custody.sweep(self.world.kernel.now)
            self.loop.call_later(1.0, self._sweep)

    def run(self, call: Any) -> None:
        """Do something as this process."""
        self.loop.run_in(call)

    def drain(self, name: str, drain: bool) -> None:
        """Take a server out of rotation, or put it back."""
        self.proxies.set_drain(name, drain)
        self.custody.sweep(self.world.kernel.now)

    def reload(self, config: ProxyConfig) -> None:
        """Go over to a configuration."""
        self.config = config
        self.proxy.reconcile(config, "node")

    def end(self) -> None:
        """Be no more, however that came about."""
        self.alive = False
        self.loop.kill()
        self.process.end()
