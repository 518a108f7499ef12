"""Small TCP servers for tests: each is a context manager and runs in one thread of its own.

Every server can be stopped and started again on its port, and lives in a network namespace if it is given
one. `pattern` is the endless stream of bytes that source and sink know: any piece of it can be checked
by its offset, so a byte lost, doubled or moved shows at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import ssl
import struct
import threading
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace, inside
from tests.support.ports import free_port
from tests.support.wait import FACTOR

BLOCK = 1 << 16
_TAIL = random.Random("lbproxy").randbytes(BLOCK - 8)
LINGER_RESET = struct.pack("ii", 1, 0)


def pattern(offset: int, size: int) -> bytes:
    """Return `size` bytes of the endless stream from `offset`: blocks of 64 KiB that begin with their number."""
    first, skip = divmod(offset, BLOCK)
    last = (offset + size - 1) // BLOCK
    return b"".join(n.to_bytes(8, "big") + _TAIL for n in range(first, last + 1))[skip : skip + size]


def reset(sock: socket.socket) -> None:
    """Close `sock` with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


class Server:
    """A TCP server on `host`, on a free port unless one is given; subclasses say what a connection gets.

    `accepted` counts the connections so far, `open` the ones of now.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, ns: Namespace | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = port or free_port()
        self.ns = ns
        self.accepted = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """`host:port`, as in the configuration."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._writers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; it is closed when this returns. A connection error ends it silently."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen and serve."""
        with inside(self.ns):
            listener = socket.create_server(
                (self.host, self.port), backlog=4096,
                family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
            )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        name = f"{type(self).__name__} {self.port}"
        self._thread = threading.Thread(target=self._run, args=(listener,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and reset every connection; nothing happens if it is stopped."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10 * FACTOR)
            assert not self._thread.is_alive(), f"{self._thread.name} does not end"
            self._thread = None

    def cut(self) -> None:
        """Reset every open connection and go on serving."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            _abort(writer)

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main(listener))

    async def _main(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._connected, sock=listener, ssl=self._tls, backlog=4096)
        await self._stopping.wait()
        server.close()
        self._cut()
        while self._writers:
            await asyncio.sleep(0.001)
        for _ in range(10):  # turns in which a handshake that its client has left ends, which is nobody's writer yet
            await asyncio.sleep(0.001)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self.serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, AttributeError):  # closed already, or about to be
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    writer.transport.abort()


class Echo(Server):
    """Sends its name and a newline first, if it has one, then everything back until the client's EOF."""

    def __init__(
        self, name: str = "", host: str = "127.0.0.1", port: int = 0,
        ns: Namespace | None = None, tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        super().__init__(host, port, ns, tls)
        self.name = name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet and echo."""
        if self.name:
            writer.write(f"{self.name}\n".encode())
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()


class Source(Server):
    """Sends `size` bytes of `pattern` (None: no end), then EOF, and waits for the client's."""

    def __init__(
        self, size: int | None = None, pause: float = 0.0, piece: int = BLOCK, ns: Namespace | None = None
    ) -> None:
        super().__init__(ns=ns)
        self._size = size
        self._pause = pause
        self._piece = piece

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the pattern, `pause` seconds apart."""
        sent = 0
        while self._size is None or sent < self._size:
            piece = self._piece if self._size is None else min(self._piece, self._size - sent)
            writer.write(pattern(sent, piece))
            await writer.drain()
            sent += piece
            if self._pause:
                await asyncio.sleep(self._pause)
        writer.write_eof()
        await reader.read()


class Sink(Server):
    """Reads to the client's EOF and only then answers `<bytes> <sha256 in hex>` and a newline."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count and hash."""
        size, digest = 0, hashlib.sha256()
        while data := await reader.read(BLOCK):
            size += len(data)
            digest.update(data)
        writer.write(f"{size} {digest.hexdigest()}\n".encode())


class Resetting(Server):
    """Accepts and resets: at once, or once the client has sent something."""

    def __init__(self, after_data: bool = False, host: str = "127.0.0.1", ns: Namespace | None = None) -> None:
        super().__init__(host, ns=ns)
        self._after_data = after_data

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reset."""
        if self._after_data:
            await reader.read(1)
        _abort(writer)


class Hung:
    """A port whose kernel accepts, as that of a stopped process does, and where nobody ever answers."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, ns: Namespace | None = None) -> None:
        self.host = host
        self.port = port or free_port()
        self._ns = ns

    @property
    def address(self) -> str:
        """`host:port`, as in the configuration."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> Self:
        with inside(self._ns):
            self._socket = socket.create_server((self.host, self.port), backlog=4096)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
