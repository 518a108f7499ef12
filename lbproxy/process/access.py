"""How operators reach the daemon: the control socket, that for onlookers, and the admin endpoint if there is to be one.

The data plane needs none of them: what fails here is a line in the log, and tried again. Only another daemon on the
control socket ends a start, and whatever fails before an upgrade's point of no return ends that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lbproxy.config.model import Address, Config
from lbproxy.errors import ControlError, OccupiedError
from lbproxy.status.control import ControlServer
from lbproxy.status.onlookers import MODE, offered
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.status.admin import AdminServer
    from lbproxy.status.commands import Handler
    from lbproxy.status.pages import Pages, Source

log = logging.getLogger(__name__)

_AGAIN: Final = 5.0
"""Seconds between two tries to have a control socket."""


class Access:
    """Owns them; `path` is the control socket's, `source` what the admin endpoint tells of.

    `commands` makes what is answered when somebody asks for the first time.
    """

    def __init__(self, path: str, commands: Callable[[], Mapping[str, Handler]], source: Source, tasks: Tasks) -> None:
        self._control = ControlServer(path, commands, tasks)
        self._path = path
        self._commands = commands
        self._onlookers: ControlServer | None = None
        self._source = source
        self._tasks = tasks
        self._admin: dict[tuple[Address, bool], AdminServer] = {}
        """By the address, and whether it is for probes alone."""
        self._pages: Pages | None = None

    def bind(self, take_over: bool = False) -> None:
        """Have a control socket, with `take_over` beside that of another daemon. Raises ControlError."""
        self._control.bind(take_over)

    async def answer(self) -> None:
        """Begin to answer on the control socket, in the place of the other daemon's."""
        try:
            await self._control.start()
        except ControlError as error:
            await self._without(error)
        await self._let_look()

    async def insist(self, anyhow: bool = False) -> None:
        """Bind and answer, now or later: nobody is without his proxies for want of a control socket.

        Raises OccupiedError, but not `anyhow`: with connections to care for.
        """
        try:
            self._control.bind()
            await self._control.start()
        except ControlError as error:
            if isinstance(error, OccupiedError) and not anyhow:
                raise
            await self._without(error)
        await self._let_look()

    async def look(self) -> None:
        """Called now and then while it serves: see that the control socket is there, which anybody may have removed."""
        if self._control.lost():
            log.warning("the control socket is gone, and made again")
            try:
                await self._control.renew()
            except ControlError as error:
                await self._without(error)
        if self._onlookers is not None and self._onlookers.lost():
            await self._onlookers.stop()
            await self._let_look()

    async def _let_look(self) -> None:
        """Answer those who may look, where there is a place for it; if that fails, only they miss anything."""
        if (path := offered(self._path)) is None:
            return
        self._onlookers = ControlServer(path, self._shown, self._tasks, MODE)
        try:
            self._onlookers.bind(take_over=True)
            await self._onlookers.start()
        except ControlError as error:
            log.warning("%s; nobody but root and the owner can ask for status, the proxies are not affected", error)
            await self._onlookers.stop()

    def _shown(self) -> Mapping[str, Handler]:
        from lbproxy.status.commands import LOOKS  # nobody asks before the ports listen

        return {name: handler for name, handler in self._commands().items() if name in LOOKS}

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
        wanted = []
        if config.admin:
            wanted += [(address, False) for address in config.admin.listen]
            wanted += [(address, True) for address in config.admin.probes or ()]
        try:
            await self._move_admin(wanted)
        except Exception:
            log.exception("bug: the admin endpoint, the proxies are not affected")

    async def _move_admin(self, wanted: Sequence[tuple[Address, bool]]) -> None:
        for gone in [each for each in self._admin if each not in wanted]:
            await self._admin.pop(gone).stop()
        if not wanted:
            return
        await asyncio.sleep(0)
        from lbproxy.status import admin, pages  # only now that connections move: their imports take their time

        self._pages = self._pages or pages.Pages(self._source)
        for address, probes in wanted:
            if (address, probes) not in self._admin:
                paths = pages.PROBES if probes else tuple(pages.PAGES)
                server = self._admin[address, probes] = admin.AdminServer(address, self._pages, self._tasks, paths)
                await server.start()

    async def release_admin(self) -> None:
        """Give up the admin endpoint."""
        await self._move_admin([])

    async def close(self) -> None:
        """Give all of it up."""
        await self.release_admin()
        await self._control.stop()
        if self._onlookers is not None:
            await self._onlookers.stop()
