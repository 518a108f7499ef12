"""The HTTP endpoint for metrics, probes and people.

It lives in the loop that moves bytes, so a client of it may cost little: few connections, small
requests, a limit on every wait, one answer per turn of the loop. Failing to bind is a warning and not
an end: the data plane does not need this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import h11

from lbproxy.config.model import Address
from lbproxy.status import metrics, render
from lbproxy.status.snapshot import Snapshot, unusable
from lbproxy.tasks import Tasks

MAX_CONNECTIONS = 64
HEADER_LIMIT = 8 * 1024
BODY_LIMIT = 64 * 1024
"""Bytes of a request's body, which is read and ignored."""
READ_SIZE = 2048
"""Small, since a head is only measured after a read that did not complete it."""
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive whole, for the snapshot to be made, and for the peer to take the answer; each."""
IDLE_TIMEOUT = 30.0
"""Seconds a connection may stay open between two requests."""
RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


class Source(Protocol):
    """Who knows how things are: the daemon."""

    async def snapshot(self) -> Snapshot:
        """Return the state of everything, `config` included."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request is answered with."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class AdminServer:
    """Listens on `listen` and answers from `source`."""

    def __init__(self, listen: Address, source: Source) -> None:
        self._listen: Address | None = listen
        self._source = source
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self._retrying: asyncio.Task[Any] | None = None
        # Each request holds it over one turn of the loop, so that bytes move between any two answers
        self._turn = asyncio.Lock()

    async def start(self, tasks: Tasks) -> None:
        """Bind and begin to answer, in tasks of `tasks`; if it cannot, warn once and go on trying."""
        self._tasks = tasks
        if (why := await self._bind()) is not None:
            log.warning(
                "cannot listen on %s: %s; trying again every %g s, the proxies are not affected",
                self._listen,
                why,
                RETRY_SECONDS,
            )
            self._retrying = tasks.spawn(self._retry(), "admin bind")

    async def stop(self) -> None:
        """Close the port and every connection to it."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait({self._retrying})
            self._retrying = None
        if self._server is not None:
            self._server.close()
            self._server = None
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def rebind(self, listen: Address | None) -> None:
        """Move to another address, or with None to none, after a reload."""
        if listen == self._listen:
            return
        await self.stop()
        self._listen = listen
        await self.start(self._tasks)

    async def _bind(self) -> str | None:
        """Listen, if there is an address to listen on; returns why it failed."""
        if self._listen is None:
            return None
        try:
            self._server = await asyncio.start_server(
                self._accepted, self._listen.host, self._listen.port, limit=HEADER_LIMIT
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

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = self._tasks.spawn(_Client(reader, writer, self._answer).serve(), "admin client")
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # Here and not in a finally of the task: one that is cancelled before its first step runs no finally
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _answer(self, request: h11.Request) -> Reply:
        """Return the reply to `request`, whatever it asks for, when it is its turn."""
        async with self._turn:
            await asyncio.sleep(0)
        path = request.target.decode("ascii").partition("?")[0]
        if path not in _PAGES:
            return Reply(404, f"not found; there are {' '.join(_PAGES)}\n".encode())
        if request.method not in (b"GET", b"HEAD"):
            return Reply(405, b"only GET and HEAD\n", headers=(("Allow", "GET, HEAD"),))
        if (page := _PAGES[path]) is None:
            return Reply(200, b"ok\n")
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return page(await self._source.snapshot())
        except TimeoutError:
            return Reply(503, b"the data plane does not say how it is\n")
        except Exception:
            log.exception("%s failed", path)
            return Reply(500, b"failed, the log says why\n")


class _Client:
    """One connection: its requests one after the other, each within its limits."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[h11.Request], Any],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
        # With no room to buffer, drained means that the kernel has it all: a peer that reads nothing is noticed,
        # and aborting the transport afterwards loses nothing
        writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        try:
            await self._converse()
        except h11.RemoteProtocolError as error:
            log.debug("refused a request: %s", error)
            await self._refuse(error.error_status_hint)
        except OSError as error:  # the peer left, or took too long to take an answer
            log.debug("a client is gone: %s", error)

    async def _converse(self) -> None:
        patience = REQUEST_TIMEOUT
        while (request := await self._request(patience)) is not None:
            # Who has been answered may stay for the next question; who has only connected may not
            patience = IDLE_TIMEOUT
            reply = await self._answer(request)
            await self._send(reply, body=request.method != b"HEAD")
            if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is not h11.DONE:
                return await self._linger()
            self._http.start_next_cycle()
        return None

    async def _request(self, patience: float) -> h11.Request | None:
        """Return the next request, its body read and forgotten; None if none begins within `patience` seconds.

        Raises h11.RemoteProtocolError with the status to refuse it with.
        """
        if not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(patience):
                    self._http.receive_data(await self._reader.read(READ_SIZE))
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await self._event()
                if not isinstance(request, h11.Request):
                    return None
                # Who waits for a 100 gets the answer instead, and the connection ends with it
                if not self._http.they_are_waiting_for_100_continue:
                    await self._skip_body()
                return request
        except TimeoutError:
            raise h11.RemoteProtocolError("request too slow", error_status_hint=408) from None

    async def _skip_body(self) -> None:
        size = 0
        while isinstance(event := await self._event(), h11.Data):
            size += len(event.data)
            if size > BODY_LIMIT:
                raise h11.RemoteProtocolError("body too long", error_status_hint=413)

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_SIZE))
        return event

    async def _refuse(self, status: int) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        try:
            await self._send(Reply(status, b"bad request\n", headers=(("Connection", "close"),)), body=True)
            await self._linger()
        except OSError:
            log.debug("a refused client is gone")

    async def _send(self, reply: Reply, *, body: bool) -> None:
        """Write `reply`. Raises OSError if the peer is gone or does not take it in time."""
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *reply.headers,
        ]
        head = h11.Response(status_code=reply.status, headers=headers, reason=HTTPStatus(reply.status).phrase)
        out = self._http.send(head) or b""
        if body:
            out += self._http.send(h11.Data(data=reply.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        if self._writer.is_closing():
            raise ConnectionResetError("closed before the answer")
        self._writer.write(out)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            await self._writer.drain()

    async def _linger(self) -> None:
        """Wait a second for the peer to close: closing on unread bytes is a RST, which can overtake the answer."""
        if self._writer.is_closing():
            return
        self._writer.write_eof()
        async with asyncio.timeout(1):
            while await self._reader.read(READ_SIZE):
                await asyncio.sleep(0)


def _metrics(snapshot: Snapshot) -> Reply:
    return Reply(200, *metrics.render(snapshot))


def _ready(snapshot: Snapshot) -> Reply:
    if names := unusable(snapshot):
        return Reply(503, "".join(f"{name}: no usable server\n" for name in names).encode())
    return Reply(200, b"ok\n")


def _status(snapshot: Snapshot) -> Reply:
    return Reply(200, json.dumps(render.status_json(snapshot), indent=1).encode() + b"\n", "application/json")


def _page(snapshot: Snapshot) -> Reply:
    return Reply(200, render.status_page(snapshot).encode(errors="replace"), "text/html; charset=utf-8")


_PAGES: dict[str, Callable[[Snapshot], Reply] | None] = {
    "/": _page,
    "/metrics": _metrics,
    "/livez": None,
    "/healthz": None,
    "/readyz": _ready,
    "/status": _status,
}
"""What makes each page of a snapshot; None where answering at all is the answer."""
