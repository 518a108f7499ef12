"""What the process around the data plane (control socket, admin endpoint, reload) may ask of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from lbproxy.config.model import Address, Config
from lbproxy.handover.handing import Handing
from lbproxy.process.absent import Patience
from lbproxy.status.snapshot import ConnectionView, Snapshot


class DataPlane(Protocol):
    """The data plane: `App` in this process, or `Supervisor` for several worker processes."""

    @property
    def handover(self) -> Handing:
        """What hands the connections over to another process."""

    @property
    def absent(self) -> Collection[Address]:
        """The addresses that are not listened on, for this machine does not have them (yet)."""

    async def prepare(self, *, patience: Patience = Patience.NONE, rehearsed: bool = False) -> None:
        """Do what needs no connection to move: look up names, bind. Raises LbproxyError, with nothing left bound.

        With `patience` it waits for addresses that cannot be had now, while it serves. A configuration that was in
        force already is `rehearsed`: what its checks need and is there no more does not end it.
        """

    async def serve(self) -> None:
        """Begin to serve. Raises LbproxyError, with nothing left bound."""

    async def apply(self, config: Config) -> list[str]:
        """Go over to `config`; returns what changed, a line each. Raises LbproxyError with nothing changed."""

    async def snapshot(self) -> Snapshot:
        """Return the state of everything; its `config` part is filled in by the caller."""

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation in every proxy that has it, or put it back; False if none has it."""

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""

    async def stop(self, timeout: float) -> None:
        """Serve on until no exchange is under way, for at most `timeout` seconds, then cut what is left."""
