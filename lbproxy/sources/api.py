"""One request to an API server, and its answer as it comes: HTTP/1.1 over TLS.

What one answer may have is limited, in bytes and in time: who answers may be anybody, until a client's own checks of
him have been passed, and even then he may have gone mad.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import h11

from lbproxy import __version__
from lbproxy.balance.server import Endpoint
from lbproxy.checks.stream import Stream
from lbproxy.sources.kubeconfig import Credentials

_MOST: Final = 1 << 20
"""Bytes of an answer. A slice of seven masters is 2 KiB, a bookmark, which comes each minute of a watch, half a KiB."""
_PATIENCE: Final = 10.0
"""Seconds from the connect to the head of an answer."""


class StatusError(Exception):
    """An answer of another status than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the API server answers with status {status}")
        self.status = status


class Answer:
    """The body of an answer of status 200. All of it raises OSError, h11.ProtocolError or ValueError."""

    def __init__(self, stream: Stream, http: h11.Connection) -> None:
        self._stream = stream
        self._http = http
        self._received = 0

    async def whole(self) -> object:
        """Return the body, which is JSON, within the time for a head."""
        async with asyncio.timeout(_PATIENCE):
            return _parsed(b"".join([part async for part in self._parts()]))

    async def lines(self, seconds: float) -> AsyncIterator[object]:
        """Yield each line, which is JSON, until the server ends the answer or the time is over."""
        begun: list[bytes] = []  # of a line; put together once, in however many parts it comes
        async with asyncio.timeout(seconds):
            async for part in self._parts():
                end, *more = part.split(b"\n")
                begun.append(end)
                for each in more:
                    yield _parsed(b"".join(begun))
                    begun = [each]

    async def begin(self) -> None:
        """Wait for the head. Raises StatusError too."""
        event = await self._event()
        if not isinstance(event, h11.Response):
            raise ConnectionAbortedError("closed without an answer")
        if event.status_code != 200:
            raise StatusError(event.status_code)

    async def _parts(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._received > _MOST:
                    raise ValueError(f"an answer of more than {_MOST >> 20} MiB")
                data = await self._stream.read()
                self._received += len(data)
                self._http.receive_data(data)
            elif not isinstance(event, h11.InformationalResponse):
                return event


@asynccontextmanager
async def get(endpoint: Endpoint, target: str, credentials: Credentials) -> AsyncIterator[Answer]:
    """Ask for `target` over a connection of its own. Raises OSError, h11.ProtocolError and StatusError."""
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", credentials.host), ("User-Agent", f"lbproxy/{__version__}"), ("Accept", "application/json")]
    if credentials.token:
        headers.append(("Authorization", f"Bearer {credentials.token}"))
    request = h11.Request(method="GET", target=target, headers=headers)
    stream: Stream | None = None
    try:
        async with asyncio.timeout(_PATIENCE):
            stream = await Stream.connect(endpoint)
            await stream.shake_hands(credentials.context, credentials.name)
            await stream.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            answer = Answer(stream, http)
            await answer.begin()
        yield answer
        stream.leave()
    finally:
        if stream is not None:
            stream.close()


def _parsed(text: bytes) -> object:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("an answer that is not JSON") from None
    return found
