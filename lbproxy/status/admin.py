"""The HTTP endpoint for metrics, probes and people.

It lives in the loop that moves bytes, so a client of it may cost little: few connections, small requests, a limit on
every wait (see `http`), one answer per turn of the loop. Failing to bind is a warning and not an end: the data plane
does not need this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Protocol

from lbproxy.config.model import Address
from lbproxy.status import metrics, render
from lbproxy.status.http import HEADER_LIMIT, Conversation, Reply, Request
from lbproxy.status.serving import Clients
from lbproxy.status.snapshot import Snapshot, unusable
from lbproxy.tasks import Tasks

MAX_CONNECTIONS = 64
SNAPSHOT_TIMEOUT = 5.0
"""Seconds for the snapshot to be made that an answer needs."""
RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class Source(Protocol):
    """Who knows how things are: the daemon."""

    async def snapshot(self) -> Snapshot:
        """Return the state of everything, `config` included."""


class AdminServer:
    """Listens on `listen` and answers from `source`, in tasks of `tasks`."""

    def __init__(self, listen: Address, source: Source, tasks: Tasks) -> None:
        self._listen: Address | None = listen
        self._source = source
        self._tasks = tasks
        self._clients = Clients(self._serve, tasks, "admin client", MAX_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._retrying: asyncio.Task[None] | None = None
        # Each request holds it over one turn of the loop, so that bytes move between any two answers
        self._turn = asyncio.Lock()

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

    async def rebind(self, listen: Address | None) -> None:
        """Move to another address, or with None to none, after a reload."""
        if listen == self._listen:
            return
        await self.stop()
        self._listen = listen
        await self.start()

    async def _bind(self) -> str | None:
        """Listen, if there is an address to listen on; returns why it failed."""
        if self._listen is None:
            return None
        try:
            self._server = await asyncio.start_server(
                self._clients.accept, self._listen.host, self._listen.port, limit=HEADER_LIMIT
            )
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
        await Conversation(reader, writer, self._answer).run()

    async def _answer(self, request: Request) -> Reply:
        """Return the reply to `request`, whatever it asks for, when it is its turn."""
        async with self._turn:
            await asyncio.sleep(0)
        if request.path not in _PAGES:
            return Reply(404, f"not found; there are {' '.join(_PAGES)}\n".encode())
        if request.method not in ("GET", "HEAD"):
            return Reply(405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        if (page := _PAGES[request.path]) is None:
            return Reply(200, b"ok\n")
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT):
                return page(await self._source.snapshot())
        except TimeoutError:
            return Reply(503, b"the data plane does not say how it is\n")
        except Exception:
            log.exception("%s failed", request.path)
            return Reply(500, b"failed, the log says why\n")


def _metrics(snapshot: Snapshot) -> Reply:
    return Reply(200, *metrics.render(snapshot))


def _ready(snapshot: Snapshot) -> Reply:
    if names := unusable(snapshot):
        return Reply(503, "".join(f"{name}: no usable server\n" for name in names).encode())
    return Reply(200, b"ok\n")


def _status(snapshot: Snapshot) -> Reply:
    return Reply(200, json.dumps(render.status_json(snapshot), indent=1).encode() + b"\n", "application/json")


def _page(snapshot: Snapshot) -> Reply:
    return Reply(
        200, render.status_page(render.status_json(snapshot)).encode(errors="replace"), "text/html; charset=utf-8"
    )


_PAGES: dict[str, Callable[[Snapshot], Reply] | None] = {
    "/": _page,
    "/metrics": _metrics,
    "/livez": None,
    "/healthz": None,
    "/readyz": _ready,
    "/status": _status,
}
"""What makes each page of a snapshot; None where answering at all is the answer."""
