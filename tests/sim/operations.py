"""What happens to lbproxy itself: the operator's doing, the machine's, a killer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lbproxy.config.model import Address, ProxyConfig, ServerConfig
from lbproxy.handover.inherit import Inherited, from_fds
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel
from tests.sim import calls
from tests.sim.host import LISTEN, Host, Store
from tests.sim.servers import WELL
from tests.sim.story import Event

if TYPE_CHECKING:
    from tests.sim.world import World

NAME = "masters"
"""The host name that several servers may share."""


class Operations:
    """Does what the events of a story say, to the process that serves at the time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Store()
        self.reloaded: list[Event] = []
        """Reloads that the configuration in force still has."""
        self.answers = ""
        """How look-ups of a name go wrong, empty if they do not."""

    def config(self) -> ProxyConfig:
        """Return the configuration as it is to be now."""
        story, number = self.world.story, len(self.world.servers)
        gone = {each.who for each in self.reloaded if each.how == "server"}
        # One server stays: who takes the last one away has asked for it.
        stay = [at for at in range(number) if at not in gone and not 0 < at < story.named] or [0]
        heavy = {each.who for each in self.reloaded if each.how == "weight"}
        plain = ProxyConfig(listen=(LISTEN,), servers=tuple(self._server(at, at in heavy) for at in stay))
        config = replace(plain, **dict(story.settings))
        return replace(config, health=None) if any(each.how == "health" for each in self.reloaded) else config

    def _server(self, at: int, heavy: bool) -> ServerConfig:
        story = self.world.story
        host = NAME if at < story.named else self.world.servers[at].host
        server = ServerConfig(address=Address(host, 6443), name=f"m{at + 1}", **dict(story.members[at]))
        return replace(server, weight=3) if heavy else server

    def look_up(self, host: str) -> list[str] | None:
        """Return the IP addresses of a server's name, None if that fails."""
        if host != NAME:
            return [host]
        named = [server.host for server in self.world.servers[: self.world.story.named]]
        return {"": named, "fail": None, "empty": [], "fewer": named[:1]}[self.answers]

    def once(self, what: str, call: Callable[[Host], None]) -> None:
        """Do something to the process that serves, as soon as one answers.

        None does between two and in a stall, nor one that is killed in the midst of it: the operator asks again.
        """
        world, host = self.world, self.world.host
        world.note(what)
        answers: list[bool] = []

        def ask() -> None:
            call(host)
            answers.append(True)

        if host.serves and not host.loop.stalled:
            host.run(ask)
        if not answers:
            world.kernel.later(0.5, lambda: self.once(what, call))

    # -- one method for each kind of event -----------------------------------------------------------------------

    def server(self, event: Event) -> None:
        """Have a server's fate change for a while."""
        server = self.world.servers[event.who]
        server.become(event.how)
        self.world.kernel.later(event.lasts, lambda: server.become(WELL))

    def drain(self, event: Event) -> None:
        """Take a server out of rotation for a while."""
        name = f"m{event.who + 1}"
        self.once("drain", lambda host: host.drain(name, True))
        self.world.kernel.later(event.lasts, lambda: self.once("ready", lambda host: host.drain(name, False)))

    def reload(self, event: Event) -> None:
        """Go over to another configuration for a while."""

        def back() -> None:
            self.reloaded.remove(event)
            self.once("reload", lambda host: host.reload(self.config()))

        self.reloaded.append(event)
        self.once("reload", lambda host: host.reload(self.config()))
        self.world.kernel.later(event.lasts, back)

    def rebalance(self, event: Event) -> None:
        """Have the surplus moved."""
        self.once("rebalance", lambda host: host.proxy.rebalance(dry_run=False))

    def stall(self, event: Event) -> None:
        """Have the process stand still (SIGSTOP, or a machine without time for it)."""
        self.world.host.loop.stall(event.lasts)

    def shortage(self, event: Event) -> None:
        """Have descriptors, memory or ports be short for a while."""
        process = self.world.host.process
        process.short = True

        def over() -> None:
            process.short = False
            self.world.note("shortage")

        self.world.kernel.later(event.lasts, over)

    def names(self, event: Event) -> None:
        """Have the name server give other answers for a while, or none."""
        self.answers = event.how

        def well() -> None:
            self.answers = ""
            self.world.note("names")

        self.world.kernel.later(event.lasts, well)

    def restart(self, event: Event) -> None:
        """Leave everything to the next process, which finds it in the fd store."""
        left: list[bool] = []
        host = self.world.host
        host.run(lambda: left.append(host.custody.leave()))
        if not host.alive:
            return
        if left != [True]:
            self.world.wrong("a restart has left nothing")
        self._next()

    def kill(self, event: Event) -> None:
        """End the process as SIGKILL does: what it has in its hands is lost, and the marks say so.

        Three times of four that is in the midst of something, before any of the next system calls or writes to memory
        that it shares.
        """
        doomed, rng = self.world.host, self.world.rng
        if rng.random() < 0.25:
            self.died(doomed)
            return

        def too_late() -> None:
            if doomed.alive and doomed.process.fatal >= 0:
                doomed.process.fatal = -1
                if doomed.serves:
                    self.died(doomed)

        doomed.process.fatal = rng.randrange(rng.choice((10, 100)))
        self.world.kernel.later(5.0, too_late)

    def died(self, host: Host) -> None:
        """Called when a process was killed."""
        assert host is self.world.host
        self.world.killed_now()
        self._next()

    def _next(self) -> None:
        world = self.world
        world.host.end()
        world.new_host(Host(world, self.store, self.config()))
        # As a start does: names first, for as long as a second.
        world.kernel.later(
            world.rng.uniform(0.1, 0.4),
            lambda: world.host.run(lambda: world.begin(from_fds(self.store.passed(world.host.process)))),
        )

    def upgrade(self, event: Event) -> None:
        """Stop all movement, and hand everything over to another process some time later, or go on if there is none."""
        old = self.world.host
        parcels: list[Parcel] = []
        old.run(lambda: parcels.extend(old.custody.freeze()))
        old.serves = False
        call = self._thaw if event.how == "fails" else self._hand_over
        self.world.kernel.later(self.world.rng.choice((0.0, 0.1, 2.0)), lambda: call(old, parcels))

    def _thaw(self, old: Host, parcels: list[Parcel]) -> None:
        if not old.alive:
            return
        self.world.note("upgrade")
        old.run(old.custody.thaw)
        old.serves = True

    def _hand_over(self, old: Host, parcels: list[Parcel]) -> None:
        """Give descriptors and state to a new process, which serves; the old one ends."""
        if not old.alive:
            return
        self.world.note("upgrade")
        new = Host(self.world, self.store, self.config())
        state: list[Any] = []
        old.run(lambda: state.append(old.custody.state()))
        if not old.alive:
            return
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
                inherited.marks = Marks(new.process.install(old.process.file(old.custody.marks.fd)))
            self.world.new_host(new)
            self.world.begin(inherited)

        new.run(take)
        old.end()
