"""A server of the soak: `python -m bench.soak.server NAME PORT`, in the directory where its `mode` and `records` are.

It checks what streams send, says welcome to visits, and answers health checks, all on one port. `mode` is one of
`well`, `reset`, `refuse`, `slow` and `sick`; `records` gets a line of JSON for each stream that begins or ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from tests.support.servers import LINGER_RESET
from tests.support.streams_checked import HALF_CLIENT, STEADY, VISIT, End

HEADER = 8
_LATE = 0.4
"""Seconds by which a slow server is late."""
_AFTERWARDS = 5.0
"""Seconds for which the server goes on in a stream whose client has ended early."""


class Desk:
    """What all connections of the server share."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port, self.mode = name, port, "well"
        self.open: set[Served] = set()
        self._records = Path("records").open("a", buffering=1)  # noqa: SIM115 - for as long as the process lives
        self._server: asyncio.Server | None = None

    def record(self, **what: object) -> None:
        """Write a line."""
        self._records.write(json.dumps({"server": self.name, "at": time.time(), **what}) + "\n")

    async def follow(self) -> None:
        """Be what `mode` says, for ever."""
        while True:
            said = Path("mode").read_text() if Path("mode").exists() else "well"
            if said != self.mode and said == "reset":
                for served in list(self.open):
                    served.reset()
            self.mode = said
            if said == "refuse" and self._server is not None:
                self._server.close()
                self._server = None
            elif said != "refuse" and self._server is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(lambda: Served(self), "127.0.0.1", self.port, backlog=4096)
            await asyncio.sleep(0.1)


class Served(End):
    """The server's end; the first bytes say what it is."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(STEADY, 0, client=False)
        self._desk = desk
        self._head = b""
        self._known = self._aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._desk.open.add(self)
        super().connection_made(transport)

    def reset(self) -> None:
        """End it with a RST."""
        self._aborted = True
        sock: Any = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.transport.abort()

    def tick(self) -> None:
        if self._desk.mode == "slow" and not self.finished:
            time_to_wait, send = _LATE, super().tick
            asyncio.get_running_loop().call_later(time_to_wait, send)
        else:
            super().tick()

    def data_received(self, data: bytes) -> None:
        if self._desk.mode == "reset":
            self.reset()
            return
        if len(self._head) < HEADER:
            missing = HEADER - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) < HEADER:
                return
            self._begin()
        if data and self._known:
            super().data_received(data)

    def _begin(self) -> None:
        loop, late = asyncio.get_running_loop(), _LATE if self._desk.mode == "slow" else 0.0
        self.kind, self.number = self._head[0], int.from_bytes(self._head[1:], "big")
        if self._head[:4] == b"GET ":
            status = "500 Internal Server Error" if self._desk.mode == "sick" else "200 OK"
            loop.call_later(late, self._say, f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        elif self.kind == VISIT:
            loop.call_later(late, self._say, "welcome\n")
        else:
            self._known = True
            self._desk.record(what="open", number=self.number)
            self.tick()

    def _say(self, text: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(text.encode())
            self.transport.close()

    def eof_received(self) -> bool:
        super().eof_received()
        if not self._known:
            return False
        if self.kind == HALF_CLIENT and not self.finished:
            asyncio.get_running_loop().call_later(_AFTERWARDS, self.finish)
        else:
            self.finish()
        return True

    def finish(self) -> None:
        super().finish()
        if self.ended:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._desk.open.discard(self)
        super().connection_lost(error)
        if self._known:
            self._desk.record(
                what="end", number=self.number, ended=self.ended, sent=self.sent, received=self.received,
                finished=self.finished, aborted=self._aborted, wrong=self.wrong,
            )  # fmt: skip


if __name__ == "__main__":
    uvloop.run(Desk(sys.argv[1], int(sys.argv[2])).follow())
