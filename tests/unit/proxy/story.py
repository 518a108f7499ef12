"""One client in front of servers that the test plays itself, on real loopback sockets turned by hand."""

from __future__ import annotations

import socket
import ssl

import pytest

from lbproxy.balance.server import Server
from lbproxy.proxy.session import Session
from tests.unit.relay.hand import Bench, take
from tests.unit.scene import Scene


def client_hello() -> bytes:
    """Return what a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="kubernetes")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = client_hello()


class Story:
    """A session between `client` and servers that the test plays itself; `silent` more of them never answer at all."""

    def __init__(self, bench: Bench, count: int = 2, silent: int = 0, **settings: object) -> None:
        self.bench = bench
        self.loop = bench.loop
        self.listeners = [bench.listen() for _ in range(count)]
        places = [listener.getsockname() for listener in self.listeners]
        self.scene = Scene(bench, *places, *(bench.silent_port() for _ in range(silent)), **settings)
        self.servers = self.scene.servers
        self.ends: list[str] = []
        self.at_the_end: list[Server | None] = []
        """The server that the session had when it ended."""
        self.client, self.near = bench.pair()
        bench.poller.turn()
        self.session = Session(
            bench.poller, self.scene.backend, self.near, self.client.getsockname(), self._ended
        )  # fmt: skip

    def _ended(self, session: Session, reason: str, why: str) -> None:
        self.ends.append(reason)
        self.at_the_end.append(session.server)

    def begin(self) -> Story:
        """Have the session look for a server."""
        self.session.thaw()
        return self

    def accept(self, at: int) -> socket.socket:
        """Return the connection that server `at` gets."""
        self.listeners[at].setblocking(False)
        found: list[socket.socket] = []

        def arrived() -> bool:
            try:
                found.append(self.listeners[at].accept()[0])
            except BlockingIOError:
                return False
            return True

        self.loop.until(arrived, f"a connection to server {at}")
        found[0].setblocking(False)
        return self.bench.keep(found[0])

    def hear(self, sock: socket.socket, size: int) -> bytes:
        """Return `size` bytes that arrive at `sock`."""
        got = bytearray()

        def more() -> bool:
            got.extend(take(sock))
            return len(got) >= size

        self.loop.until(more, f"{size} bytes")
        return bytes(got)

    def untouched(self, at: int) -> bool:
        """Whether nobody has connected to server `at`."""
        self.loop.settle()
        self.listeners[at].setblocking(False)
        try:
            self.listeners[at].accept()[0].close()
        except BlockingIOError:
            return True
        return False
