"""How operators reach the daemon: the control socket, and the admin endpoint if there is to be one.

The data plane needs neither: what fails here is a line in the log, and tried again. Only another daemon on the control
socket ends a start, and whatever fails before an upgrade's point of no return ends that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from lbproxy.config.model import Address, Config
from lbproxy.errors import ControlError, OccupiedError
from lbproxy.status.commands import Handler
from lbproxy.status.control import ControlServer
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.status.admin import AdminServer, Source

log = logging.getLogger(__name__)

_AGAIN: Final = 5.0
"""Seconds between two tries to have a control socket."""


class Access:
    """Owns both; `path` is the control socket's, `source` what the admin endpoint tells of."""

    def __init__(self, path: str, commands: Mapping[str, Handler], source: Source, tasks: Tasks) -> None:
        self._control = ControlServer(path, commands, tasks)
        self._source = source
        self._tasks = tasks
        self._admin: AdminServer | None = None

    def bind(self, take_over: bool = False) -> None:
        """Have a control socket, with `take_over` beside that of another daemon. Raises ControlError."""
        self._control.bind(take_over)

    async def answer(self) -> None:
        """Begin to answer on the control socket, in the place of the other daemon's."""
        try:
            await self._control.start()
        except ControlError as error:
            await self._without(error)

    async def insist(self, anyhow: bool = False) -> None:
        """Do both, now or later: nobody is without his proxies for want of a control socket.

        Raises OccupiedError, but not `anyhow`: with connections to care for.
        """
        try:
            self._control.bind()
            await self._control.start()
        except ControlError as error:
            if isinstance(error, OccupiedError) and not anyhow:
                raise
            await self._without(error)

    async def look(self) -> None:
        """Called now and then while it serves: see that the control socket is there, which anybody may have removed."""
        if self._control.lost():
            log.warning("the control socket is gone, and made again")
            try:
                await self._control.renew()
            except ControlError as error:
                await self._without(error)

    async def _without(self, error: ControlError) -> None:
        log.error("%s; no command is answered, trying again every %g s, the proxies are not affected", error, _AGAIN)
        await self._control.stop()
        self._tasks.spawn(self._retry(), "control bind")

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN)
            try:
                self._control.bind()
                await self._control.start()
            except ControlError:
                await self._control.stop()
            else:
                log.info("commands are answered again")
                return

    async def move_admin(self, config: Config) -> None:
        """Have the admin endpoint where `config` says, or none."""
        try:
            await self._move_admin(config.admin.listen if config.admin else None)
        except Exception:
            log.exception("bug: the admin endpoint, the proxies are not affected")

    async def _move_admin(self, listen: Address | None) -> None:
        if self._admin:
            await self._admin.rebind(listen)
        elif listen:
            await asyncio.sleep(0)
            from lbproxy.status.admin import AdminServer  # only now that connections move: its imports take their time

            self._admin = AdminServer(listen, self._source, self._tasks)
            await self._admin.start()

    async def release_admin(self) -> None:
        """Give up the admin endpoint."""
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.stop()

    async def close(self) -> None:
        """Give up both."""
        await self.release_admin()
        await self._control.stop()
