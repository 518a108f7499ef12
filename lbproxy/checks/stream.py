"""One connection of a probe: a socket, TLS over it if asked for, and nothing that outlives a cancelled wait.

Neither asyncio's transports nor uvloop's are used: they close in the background, over TLS they wait for the peer to say
goodbye, and uvloop (0.23) loses an alert that comes with the end of the stream, logs errors of a connection that is
closed while it reads, and may leave a descriptor registered when sock_connect is cancelled. Here the loop is asked for
one thing alone, to say when the socket is ready, and `close` closes at once. An idle connection costs the loop nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final, Self, TypeVar

from lbproxy.balance.server import Endpoint
from lbproxy.net.closing import reset_at_last
from lbproxy.net.contract import SocketAddress

T = TypeVar("T")

_READ: Final = 16384


class Stream:
    """A connected socket; all errors are OSErrors (ssl.SSLError is one)."""

    __slots__ = ("_in", "_out", "_sock", "_tls", "_unsent")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls: ssl.SSLObject | None = None
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._unsent: OSError | None = None

    @classmethod
    async def connect(cls, endpoint: Endpoint, silent: bool = False) -> Self:
        """Connect to `endpoint`.

        A `silent` one holds back the last ACK of the handshake for some 200 ms and is reset when it is closed: closed
        until then, it never was a connection for the server's program (HAProxy's TCP checks do the same).
        """
        family, address = endpoint
        stream = cls(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        try:
            await stream._connect(address, silent)
        except BaseException:
            stream.close()
            raise
        return stream

    async def shake_hands(self, context: ssl.SSLContext, name: str) -> None:
        """Go over to TLS with the server called `name`; may be left and called again."""
        if self._tls is None:
            # In bytes: text is put through the codec for international names, a megabyte of tables that no name needs
            self._tls = context.wrap_bio(self._in, self._out, server_hostname=name.encode("ascii"))
        await self._step(self._tls.do_handshake)

    def certificate(self) -> bytes:
        """Return the certificate that the server has shown, in DER; nothing without TLS."""
        return (self._tls.getpeercert(binary_form=True) if self._tls is not None else None) or b""

    async def read(self) -> bytes:
        """Return what has come, at most 16 KiB; nothing at the end of the stream."""
        if self._tls is None:
            return await self._receive()
        tls = self._tls
        try:
            return await self._step(lambda: tls.read(_READ))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""
        if self._tls is None:
            await self._send(data)
        else:
            tls = self._tls
            await self._step(lambda: tls.write(data))

    def leave(self) -> None:
        """Say goodbye over TLS and end our side of the stream; the rest is for `close`, when the peer has had time.

        Closing now would answer what the server still sends (session tickets) with a reset.
        """
        try:
            if self._tls is not None:
                self._tls.unwrap()
        except ssl.SSLError:
            pass  # the close_notify is in _out; the peer's has not been heard yet
        try:
            self._sock.send(self._out.read())
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # gone already

    def close(self) -> None:
        """Close at once."""
        self._sock.close()

    async def _connect(self, address: SocketAddress, silent: bool) -> None:
        sock = self._sock
        if silent:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            reset_at_last(sock)
        while (code := sock.connect_ex(address)) == errno.EINTR:
            pass
        if code == errno.EINPROGRESS:
            await self._writable()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    async def _step(self, step: Callable[[], T]) -> T:
        """Do a step of TLS, and whatever reading and writing it takes."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._send(self._out.read())
                data = await self._receive()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLError:
                await self._send(self._out.read())  # the alert that says why
                raise
            else:
                await self._send(self._out.read())
                return result

    async def _receive(self) -> bytes:
        # Waiting first, so that a peer that never stops sending cannot keep the loop for itself.
        while True:
            await self._readable()
            try:
                data = self._sock.recv(_READ)
            except BlockingIOError:
                continue
            if not data and self._unsent is not None:
                raise self._unsent
            return data

    async def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await self._writable()
            except ConnectionError as error:
                self._unsent = error  # what the peer said before it left explains more: a read follows
                return

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        await self._until(loop.add_reader, loop.remove_reader)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        await self._until(loop.add_writer, loop.remove_writer)

    async def _until(
        self,
        watch: Callable[[socket.socket, Callable[[], None]], None],
        unwatch: Callable[[socket.socket], bool],
    ) -> None:
        ready = asyncio.Event()
        watch(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            unwatch(self._sock)
