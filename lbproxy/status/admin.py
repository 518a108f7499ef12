"""The HTTP endpoint for metrics, probes and people.

It lives in the loop that moves bytes, so all its clients together may cost little: few connections, small requests, a
limit on every wait (see `http`), a hundred answers a second, and pages that are made anew only so often (see `pages`).
Failing to bind is a warning and not an end: the data plane does not need this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Collection

from lbproxy.config.model import Address
from lbproxy.status.http import HEADER_LIMIT, Conversation, Reply, Request
from lbproxy.status.pages import PAGES, Pages
from lbproxy.status.serving import Clients, Turns
from lbproxy.tasks import Tasks

MAX_CONNECTIONS = 64
SNAPSHOT_TIMEOUT = 5.0
"""Seconds for the snapshot to be made that an answer needs."""
RETRY_SECONDS = 5.0
_BETWEEN = 0.01
"""Seconds between two answers at least. One takes a third of a millisecond, so a flood of requests costs 3 %."""

log = logging.getLogger(__name__)


class AdminServer:
    """Listens on `listen` and answers with those of `pages` that are in `paths`, in tasks of `tasks`."""

    def __init__(self, listen: Address, pages: Pages, tasks: Tasks, paths: Collection[str] = tuple(PAGES)) -> None:
        self._listen = listen
        self._pages = pages
        self._paths = paths
        self._tasks = tasks
        self._clients = Clients(self._serve, tasks, "admin client", MAX_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._turns = Turns(_BETWEEN)

    async def start(self) -> None:
        """Bind and begin to answer; if that fails, warn once and go on trying."""
        if (why := await self._bind()) is not None:
            log.warning(
                "cannot listen on %s: %s; trying again every %g s, the proxies are not affected",
                self._listen,
                why,
                RETRY_SECONDS,
            )
            self._retrying = self._tasks.spawn(self._retry(), "admin bind")

    async def stop(self) -> None:
        """Close the port and every connection to it."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait({self._retrying})
            self._retrying = None
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._clients.close()

    async def _bind(self) -> str | None:
        """Listen; returns why it failed."""
        try:
            # Made here: the loop would look even an IP address up, in four threads that then stay
            family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
            sock = socket.create_server((self._listen.host, self._listen.port), family=family)
            self._server = await asyncio.start_server(self._clients.accept, sock=sock, limit=HEADER_LIMIT)
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
        log.info("listening on %s", self._listen)
        return None

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if await self._bind() is None:
                return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Conversation(reader, writer, self._answer, self._clients).run()

    async def _answer(self, request: Request) -> Reply:
        """Return the reply to `request`, whatever it asks for, when it is its turn."""
        await self._turns.mine()
        if request.path not in self._paths:
            return Reply(404, f"not found; there are {' '.join(self._paths)}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Reply(405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT):
                return await self._pages.get(request.path)
        except TimeoutError:
            return Reply(503, b"the data plane does not say how it is\n")
        except Exception:
            log.exception("%s failed", request.path)
            return Reply(500, b"failed, the log says why\n")
