"""HTTP/1.1 with one client of the admin endpoint: its requests one after the other, each within its limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from time import gmtime, strftime

import h11

from lbproxy.record import dataclass
from lbproxy.status.serving import Clients

HEADER_LIMIT = 8 * 1024
BODY_LIMIT = 64 * 1024
"""Bytes of a request's body, which is read and ignored."""
READ_SIZE = 2048
"""Small, since a head is only measured after a read that did not complete it."""
WRITE_SIZE = 64 * 1024
"""Bytes written at a time: two megabytes, the metrics of 400 servers, take a millisecond to copy."""
REQUEST_TIMEOUT = 5.0
"""Seconds for a request to arrive whole, and for the peer to take the answer; each."""
IDLE_TIMEOUT = 30.0
"""Seconds a connection may stay open between two requests."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for; `path` is without the query."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request is answered with."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Conversation:
    """All requests of one client, each answered by `answer`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[Request], Awaitable[Reply]],
        clients: Clients,
    ) -> None:
        """`clients` are those that this is one of, and hear whether it rests."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._clients = clients
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
        self._head_only = False
        """The request is HEAD, to which no answer has a body, not even that it is a bad one (RFC 9110, 9.3.2)."""
        # With no room to buffer, drained means that the kernel has it all: a peer that reads nothing is noticed,
        # and aborting the transport afterwards loses nothing
        writer.transport.set_write_buffer_limits(high=0)

    async def run(self) -> None:
        """Converse until one side has no more to say, or too little."""
        try:
            await self._take_turns()
        except h11.RemoteProtocolError as error:
            log.debug("refused a request: %s", error)
            await self._refuse(error.error_status_hint)
        except OSError as error:  # the peer left, or took too long to take an answer
            log.debug("a client is gone: %s", error)

    async def _take_turns(self) -> None:
        patience = REQUEST_TIMEOUT
        while (request := await self._request(patience)) is not None:
            # Who has been answered may stay for the next question; who has only connected may not
            patience = IDLE_TIMEOUT
            reply = await self._answer(request)
            await self._send(reply)
            if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is not h11.DONE:
                return await self._linger()
            self._http.start_next_cycle()
        return None

    async def _request(self, patience: float) -> Request | None:
        """Return the next request, its body read and forgotten; None if none begins within `patience` seconds.

        Raises h11.RemoteProtocolError with the status to refuse it with.
        """
        self._clients.rest()  # until it is there whole: who sends a byte a second makes room for others
        self._head_only = False
        if not self._http.trailing_data[0]:
            try:
                async with asyncio.timeout(patience):
                    self._http.receive_data(await self._reader.read(READ_SIZE))
            except TimeoutError:
                return None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await self._event()
                if not isinstance(head, h11.Request):
                    return None
                self._head_only = head.method == b"HEAD"
                # Who waits for a 100 gets the answer instead, and the connection ends with it
                if not self._http.they_are_waiting_for_100_continue:
                    await self._skip_body()
        except TimeoutError:
            raise h11.RemoteProtocolError("request too slow", error_status_hint=408) from None
        self._clients.work()
        return Request(head.method.decode("ascii"), head.target.decode("ascii").partition("?")[0])

    async def _skip_body(self) -> None:
        size = 0
        while isinstance(event := await self._event(), h11.Data):
            size += len(event.data)
            if size > BODY_LIMIT:
                raise h11.RemoteProtocolError("body too long", error_status_hint=413)

    async def _event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_SIZE))
        return event

    async def _refuse(self, status: int) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        try:
            await self._send(Reply(status, b"bad request\n", headers=(("Connection", "close"),)))
            await self._linger()
        except OSError:
            log.debug("a refused client is gone")

    async def _send(self, reply: Reply) -> None:
        """Write `reply`. Raises OSError if the peer is gone or does not take it in time."""
        headers = [
            ("Date", strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime())),
            ("Content-Type", reply.content_type),
            ("Content-Length", str(len(reply.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *reply.headers,
        ]
        head = h11.Response(status_code=reply.status, headers=headers, reason=HTTPStatus(reply.status).phrase)
        out = self._http.send(head) or b""
        async with asyncio.timeout(REQUEST_TIMEOUT):
            for at in range(0, 0 if self._head_only else len(reply.body), WRITE_SIZE):
                out += self._http.send(h11.Data(data=reply.body[at : at + WRITE_SIZE])) or b""
                if at + WRITE_SIZE < len(reply.body):
                    await self._write(out)
                    out = b""
            await self._write(out + (self._http.send(h11.EndOfMessage()) or b""))

    async def _write(self, out: bytes) -> None:
        """Write, and give everybody else a turn. Raises OSError if the peer is gone."""
        if self._writer.is_closing():
            raise ConnectionResetError("closed before the end of the answer")
        self._writer.write(out)
        await self._writer.drain()
        await asyncio.sleep(0)

    async def _linger(self) -> None:
        """Wait a second for the peer to close: closing on unread bytes is a RST, which can overtake the answer."""
        if self._writer.is_closing():
            return
        self._writer.write_eof()
        async with asyncio.timeout(1):
            while await self._reader.read(READ_SIZE):
                await asyncio.sleep(0)
