"""A stand-in for an API server, a process of its own so that it can be stopped; settable while it runs.

Over TLS a connection begins with one line: `GET /readyz` or `/healthz` is answered as HTTP, kept alive; `hello` is
answered with the master's name and closed; `hold` is answered with the name, then every line is sent back. On the
plain port, `whole SIZE` is answered with so many bytes once the client has sent EOF, and `broken SIZE` with so many
and then a reset.

Settings (JSON over a unix socket, any subset): `listening` (false closes the ports, lets requests end, resets the
rest), `readyz` and `healthz` (status and body), `reset` (reset whoever sends a ClientHello for a host name: clients
do, checks of an address do not), `hang` (true leaves `hello` and `hold` without an answer until it is false),
`trickle` (seconds between two bytes of an HTTP answer), `certificate` (a file).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import sys
from typing import Any

from tests.support.servers import pattern

LINGER_RESET = struct.pack("ii", 1, 0)
GRACE = 0.2
"""Seconds that requests have to end when the ports close."""


class Master:
    """`name` is what it answers; it listens for TLS on `port` and for plain TCP on `port + 1` of `host`."""

    def __init__(self, name: str, host: str, port: int, certificate: str) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._listeners: list[socket.socket] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._certificate(certificate)
        self._settings: dict[str, Any] = {
            "readyz": [200, "ok"],
            "healthz": [200, "ok"],
            "reset": False,
            "hang": False,
            "trickle": 0,
        }

    async def run(self, control: str) -> None:
        """Serve for ever, and be set over the unix socket `control`."""
        self._listen()
        await asyncio.start_unix_server(self._controlled, control)
        await asyncio.Event().wait()

    def _certificate(self, file: str) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(file)

    def _listen(self) -> None:
        for port, tls in ((self._port, True), (self._port + 1, False)):
            listener = socket.create_server((self._host, port), backlog=4096)
            listener.setblocking(False)
            self._listeners.append(listener)
            self._spawn(self._accept(listener, tls))

    def _spawn(self, coro: Any) -> None:
        task = asyncio.get_running_loop().create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _controlled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = json.loads(await reader.readline())
        listening = wanted.pop("listening", None)
        if file := wanted.pop("certificate", None):
            self._certificate(file)
        self._settings.update(wanted)
        if listening is False:
            await self._close()
        elif listening and not self._listeners:
            self._listen()
        writer.write(b"done\n")
        await writer.drain()
        writer.close()

    async def _close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        await asyncio.sleep(GRACE)
        for writer in self._open:
            _abort(writer)
        self._open.clear()

    async def _accept(self, listener: socket.socket, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while listener.fileno() >= 0:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                await _readable(listener)
            except OSError:
                return
            else:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._spawn(self._connection(loop, sock, tls))

    async def _connection(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, tls: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if tls and self._settings["reset"]:
                await _readable(sock)
                if b"localhost" in sock.recv(4096, socket.MSG_PEEK):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                    sock.close()
                    return
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._tls if tls else None)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            self._open.add(writer)
            try:
                await (self._serve if tls else self._plain)(reader, writer)
            finally:
                self._open.discard(writer)
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"GET "):
                while (await reader.readline()).strip():
                    pass
                await self._answer("healthz" if b"healthz" in line else "readyz", writer)
                continue
            while self._settings["hang"]:
                await asyncio.sleep(0.02)
            writer.write(f"{self._name}\n".encode())
            while line == b"hold\n" and (echo := await reader.readline()):
                writer.write(echo)
            return

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        status, body = self._settings[path]
        body = "x" * body if isinstance(body, int) else body
        head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n\r\n"
        if self._settings["trickle"]:
            for byte in head + body:
                writer.write(byte.encode())
                await asyncio.sleep(self._settings["trickle"])
        else:
            writer.write(head.encode())
            for at in range(0, len(body), 1 << 20):
                writer.write(body[at : at + (1 << 20)].encode())
                await writer.drain()

    async def _plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, size = (await reader.readline()).split()
        if word == b"whole":
            await reader.read()
        writer.write(pattern(0, int(size)))
        await writer.drain()
        if word == b"broken":
            await asyncio.sleep(GRACE)
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    writer.transport.abort()


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        if sock.fileno() >= 0:
            loop.remove_reader(sock)


if __name__ == "__main__":
    asyncio.run(Master(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]).run(sys.argv[5]))
