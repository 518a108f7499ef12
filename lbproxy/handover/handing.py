"""What a data plane does to hand its connections over, be it one process or several."""

from __future__ import annotations

from socket import SocketType
from typing import Protocol

from lbproxy.config.model import Address
from lbproxy.handover.custody import Custody
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel, ProcessState


class Handing(Protocol):
    """The old process's part; see `upgrade` and `custody`."""

    @property
    def marks(self) -> Marks | None:
        """The marks that go over with the connections, None if they get new ones."""

    def listeners(self) -> dict[Address, SocketType]:
        """Return the listening sockets, to be handed over."""

    def state(self) -> ProcessState:
        """Return what a successor must know besides the connections."""

    async def freeze(self) -> list[Parcel]:
        """Stop all movement and accepting; returns every connection. Raises LbproxyError; `thaw` is due in any case."""

    async def thaw(self) -> None:
        """Let everything go on: nobody has taken over."""

    async def leave(self) -> bool:
        """Leave everything, frozen, in the fd store; False if there is none. The process is to end now."""

    def given(self) -> None:
        """Called when the successor has the word to go: no socket is touched here any more."""


class Alone:
    """The connections of this process, which are in its custody."""

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self.listeners = custody.listeners
        self.state = custody.state

    @property
    def marks(self) -> Marks | None:
        """The marks of its connections."""
        return self._custody.marks

    async def freeze(self) -> list[Parcel]:
        """See `Handing`."""
        return self._custody.freeze()

    async def thaw(self) -> None:
        """See `Handing`."""
        self._custody.thaw()

    async def leave(self) -> bool:
        """See `Handing`."""
        return self._custody.leave()

    def given(self) -> None:
        """See `Handing`."""
