"""Clients: one line from a server that answers its name, and many connections at a set pace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.support.netns import Namespace, inside
from tests.support.wait import FACTOR


def connect(port: int, host: str = "127.0.0.1", ns: Namespace | None = None) -> socket.socket:
    """Return a connected socket with a timeout."""
    with inside(ns):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.settimeout(10 * FACTOR)
    try:
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def turned_away(port: int) -> bool:
    """Whether a connection ends in a reset, which may come before connect() has returned, and not in an EOF."""
    try:
        with connect(port) as sock:
            receive_all(sock)
    except ConnectionResetError:
        return True
    return False


def receive(sock: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes, or fewer if the peer ends before."""
    got = bytearray()
    while len(got) < size and (data := sock.recv(size - len(got))):
        got += data
    return bytes(got)


def receive_all(sock: socket.socket) -> bytes:
    """Return everything up to the peer's EOF."""
    got = bytearray()
    while data := sock.recv(1 << 16):
        got += data
    return bytes(got)


def receive_line(sock: socket.socket) -> str:
    """Return one line without its newline (what was received, if the peer ends before), reading nothing beyond it."""
    got = bytearray()
    while not got.endswith(b"\n") and (byte := sock.recv(1)):
        got += byte
    return got.decode().rstrip("\n")


def greeting(port: int, host: str = "127.0.0.1", ns: Namespace | None = None) -> str:
    """Connect to an `Echo` with a name, return its name, close."""
    with connect(port, host, ns) as sock:
        return receive_line(sock)


@dataclass
class Tally:
    """What became of many connections."""

    answers: Counter[str] = field(default_factory=Counter)
    """How often each first line was received."""
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Time from connect to the first line, in ascending order."""

    def quantile(self, share: float) -> float:
        """Return e.g. the 0.99 quantile of `seconds`."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def flood(
    port: int, count: int, host: str = "127.0.0.1", at_once: int = 32, per_second: float = 0.0,
    tls: ssl.SSLContext | None = None, send: bytes = b"", ns: Namespace | None = None, timeout: float = 10.0,
) -> Tally:  # fmt: skip
    """Make `count` new connections, `at_once` side by side or `per_second` of them, and return their fate.

    Each sends `send`, if there is any, and waits for the answer's last line (of an HTTP answer: its body).
    """
    with asyncio.Runner() as runner:
        return runner.run(_flood(port, count, host, at_once, per_second, tls, send, ns, timeout * FACTOR))


def get(host: str = "localhost") -> bytes:
    """Return an HTTP/1.1 request after whose answer the server closes."""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


async def _flood(
    port: int, count: int, host: str, at_once: int, per_second: float,
    tls: ssl.SSLContext | None, send: bytes, ns: Namespace | None, timeout: float,
) -> Tally:  # fmt: skip
    tally, places = Tally(), asyncio.Semaphore(at_once)

    async def one() -> None:
        start = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                answer = await _ask(port, host, tls, send, ns)
        except (OSError, asyncio.IncompleteReadError) as error:
            tally.errors.append(f"{type(error).__name__}: {error}")
        else:
            tally.seconds.append(time.monotonic() - start)
            tally.answers[answer] += 1
        finally:
            places.release()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            await places.acquire()
            tasks.create_task(one())
            if per_second:
                await asyncio.sleep(1 / per_second)
    tally.seconds.sort()
    return tally


async def _ask(port: int, host: str, tls: ssl.SSLContext | None, send: bytes, ns: Namespace | None) -> str:
    with inside(ns):
        sock = socket.socket()
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname="localhost" if tls else None)
    try:
        if not send:
            return (await reader.readuntil(b"\n")).decode().strip()
        writer.write(send)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise OSError(head.split(b"\r\n")[0].decode())
        return body.decode().strip()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
