"""The data plane of a worker: it carries connections, and is told where it listens and how servers are.

Another process binds, looks up names and checks (`leader`), and says so with the pictures of `proxy.crew`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from socket import SocketType
from time import monotonic
from typing import TYPE_CHECKING

from lbproxy.balance.group import Group
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.shared import Cell
from lbproxy.checks.resolve import Known
from lbproxy.config.model import Address, Config, ServerConfig
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import FdStore
from lbproxy.net.poller import Poller
from lbproxy.process.absent import Patience
from lbproxy.process.app import App
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.crew import Crew, Picture, believe
from lbproxy.proxy.proxy import ServerMonitor
from lbproxy.proxy.sessions import SHUTDOWN

if TYPE_CHECKING:
    from lbproxy.checks.secure import Secure


class Follower(App):
    """An `App` that listens only on what it is given; see `worker` for the order of things."""

    def __init__(
        self, config: Config, poller: Poller, inherited: Inherited, store: FdStore, crew: Crew, open_cell: Cell | None
    ) -> None:
        """It counts its open connections in `open_cell`."""
        super().__init__(config, poller, inherited, store, crew)
        self._limit.cell = open_cell

    def inherit(self, listeners: Mapping[Address, SocketType]) -> None:
        """Listen on these sockets too, for the addresses that the next `apply` has."""
        self._sockets.update(listeners)

    def adopt(self) -> None:
        """Take over the connections of a predecessor, at rest."""
        self._custody.adopt()

    def believe(self, pictures: Mapping[str, Picture]) -> None:
        """Go over to what the leader sees of servers, by proxy."""
        now = monotonic()
        for name, picture in pictures.items():
            proxy = self._proxies.named.get(name)
            if proxy is not None:
                believe(proxy.backend, proxy.sessions, picture, now)

    async def begin(self) -> None:
        """Accept, and let go on what was taken over."""
        self._begin()

    async def even_out(self, dry_run: bool, beyond: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        """Close quiet connections of servers that have so many too many, or only count them; by proxy and name."""
        named = self._proxies.named
        return {
            name: named[name].rebalance(dry_run=dry_run, beyond=counts)
            for name, counts in beyond.items()
            if name in named
        }

    def abandon(self) -> None:
        """Reset what nobody can go on with when this process ends now; what stands still is another one's already."""
        if not self._custody.still:
            for session in list(self._proxies.sessions()):
                if session.link is None or not session.link.kept:
                    session.cut(SHUTDOWN)

    async def _rehearse(self, config: Config) -> list[Secure]:
        return []

    async def _look_up(self, servers: Iterable[ServerConfig]) -> Known:
        return {}

    def _bind(self, config: Config, patience: Patience = Patience.NONE) -> list[str]:
        return []

    def _monitor(self, backend: Backend, group: Group) -> ServerMonitor:
        return Told(backend, group)


class Told:
    """In the place of a monitor: how a server is, and where, comes with the pictures."""

    def __init__(self, backend: Backend, group: Group) -> None:
        self._backend = backend
        self._group = group

    def found(self, answer: Sequence[Endpoint]) -> None:
        """Called with the addresses that the server's name has, by connections that are taken over.

        Once a picture has said where it leads, that is where: who checks has heard of these connections, too.
        """
        if self._group.members[0].endpoint is None:
            self._backend.resolved(self._group, answer, monotonic())

    def check(self) -> None:
        """Leave it to who checks."""

    def hurry(self, server: Server) -> None:
        """Leave it to who checks; it hears of the same."""

    def stop(self) -> None:
        """Do nothing, as ever."""
