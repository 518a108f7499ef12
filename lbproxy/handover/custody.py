"""The connections of this process on their way from the one before it to the next, whichever way that comes about.

A predecessor has left them in the fd store, or gives them over while both run (`upgrade`); so does this process in its
turn. While it runs, the store holds a copy of what it could not give over if it were killed (`keeper`).
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from socket import SocketType
from time import monotonic
from typing import Final

from lbproxy.config.model import Address
from lbproxy.handover.inherit import Inherited, adopt
from lbproxy.handover.keeper import MARKS, FdStore, Keeper
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel, ProcessState
from lbproxy.handover.revive import AtRest
from lbproxy.net.bugs import met_bug
from lbproxy.net.poller import Poller
from lbproxy.proxy.proxies import Proxies

log = logging.getLogger(__name__)

_SOON: Final = 0.1
"""Seconds to the first: what was taken over is old, and another upgrade may come before a second has passed."""
_SWEEP: Final = 1.0
"""Seconds between two looks for connections that have become old enough to be kept."""


class Custody:
    """Holds the connections of `proxies` for whoever comes next."""

    def __init__(self, proxies: Proxies, poller: Poller, inherited: Inherited, store: FdStore | None) -> None:
        """`inherited` is what a predecessor has left; without a `store` nothing outlives a crash."""
        self._proxies = proxies
        self._poller = poller
        self._inherited = inherited
        self._store = store
        self._keeper: Keeper | None = None
        self._frozen: list[AtRest] = []
        self.handed: dict[str, int] = {}
        """Connections of the predecessor, by what became of them: success, reset."""
        self.still = False
        """Whether all stands still, on its way to another process."""
        self.marks: Marks | None = None
        """Of the connections that are kept, None when none are."""

    @property
    def inherited(self) -> int:
        """How many descriptors are open that belong to connections not taken over yet."""
        return self._inherited.descriptors()

    def prepare(self, limit: int) -> None:
        """Map the marks, for `limit` connections if there are none yet."""
        self.marks = self._inherited.marks
        if self.marks is None and self._store is not None:
            try:
                self.marks = Marks.create(limit)
            except OSError as error:  # a sandbox without memfd_create, no memory
                log.warning("no connection can be kept over a restart or a crash: %s", error.strerror)
            else:
                if MARKS in self._inherited.sets:
                    self._store.forget(MARKS)
                self._store.store(MARKS, [self.marks.fd])
        if self.marks is not None:
            self._poller.marks = self.marks.page

    def adopt(self) -> tuple[int, int]:
        """Take over what was inherited, at rest until `thaw`, and begin to keep it.

        Returns how many connections go on, and how many had to be reset.
        """
        inherited, self._inherited = self._inherited, Inherited()
        for server in inherited.state.get("drained", ()):
            self._proxies.set_drain(server, True)
        self._frozen, reset = adopt(inherited, self._poller, self.marks, self._proxies.of)
        self.handed = {"success": len(self._frozen), "reset": reset}
        if self._store is not None and self.marks is not None:
            self._keeper = Keeper(self._store, self.marks, self._proxies.sessions, self.state)
            self._keeper.begin(inherited.queues)
            self._keeper.sweep(monotonic())  # nothing has a slot yet of what another kind of process has left
            for name in inherited.sets:
                if name != MARKS:
                    self._store.forget(name)
        return len(self._frozen), reset

    async def keep(self) -> None:
        """Keep what has become old enough, until cancelled."""
        pause = _SOON
        while True:
            await asyncio.sleep(pause)
            self.sweep(monotonic())
            pause = _SWEEP

    def sweep(self, now: float) -> None:
        """Keep what has become old enough, and what a successor must know besides."""
        if self._keeper is not None and not self.still:
            self._keeper.sweep(now)

    @property
    def kept(self) -> int:
        """How many connections a successor would find, should this process be killed."""
        return self._keeper.living if self._keeper is not None else 0

    def forget(self, slot: int) -> None:
        """Called when a connection that was kept is over."""
        if self._keeper is not None:
            self._keeper.left(slot)

    def listeners(self) -> dict[Address, SocketType]:
        """Return the listening sockets, to be handed over."""
        return self._proxies.listeners()

    def state(self) -> ProcessState:
        """Return what a successor must know besides the connections."""
        return {"drained": self._proxies.drained(), "carrier": self._keeper.number if self._keeper else 0}

    def freeze(self) -> list[Parcel]:
        """Stop all movement and accepting; returns every connection, to be handed over."""
        self.still = True
        self._proxies.pause()
        for session in list(self._proxies.sessions()):
            self._frozen.append(AtRest.freeze(session))
        return [each.parcel() for each in self._frozen]

    def thaw(self) -> None:
        """Let everything go on that stands still: nobody has taken over, or this process just has."""
        self.still, frozen, self._frozen = False, self._frozen, []
        for each in frozen:
            try:
                each.thaw()
            except Exception:
                met_bug(each.session)
        self._proxies.resume()

    def leave(self) -> bool:
        """Leave everything, frozen, in the fd store; False if there is none. The process is to end now."""
        if self._keeper is None:
            return False
        self._keeper.sweep(inf)
        if not self._keeper.leave(self.freeze()):
            log.error(
                "not all of %d connections could be left to the next process: raise net.core.wmem_max or LimitNOFILE",
                len(self._frozen),
            )
        return True
