"""Clients that mean no good, many of them, in a process of their own: `Attack`.

Or by hand:

    python bench/attackers.py KIND COUNT WHERE WORDS

WHERE is a port of loopback, or the path of a unix socket; WORDS is what they say, if anything: `hello`, `echo`,
`request` or `command`. The kinds:

    silent   connects and says nothing
    drip     says a byte of it each second
    murmur   says it, and then a byte each second
    deaf     asks for all that there is and never reads
    half     ends its side at once, and stays
    rst      connects and resets, over and over: so many of them each second
    flood    connects and closes, likewise
    garbage  sends bytes of no meaning, in which no line ever ends
"""

from __future__ import annotations

import contextlib
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

STAY: Final = ("silent", "drip", "murmur", "deaf", "half", "garbage")
PASS: Final = ("rst", "flood")
KINDS: Final = STAY + PASS
HELLO: Final = bytes((22, 3, 1, 0, 59, 1, 0, 0, 55, 3, 3)) + b"D" + bytes(52)
"""What bench/load.c takes for a ClientHello; the D asks its server to send all it can, an E to echo."""
REQUEST: Final = b"GET /metrics HTTP/1.1\r\nX: "
COMMAND: Final = b'{"command": "status"'
WORDS: Final = {"hello": HELLO, "echo": HELLO.replace(b"D", b"E"), "request": REQUEST, "command": COMMAND}
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_IN_VAIN: Final = 300
_NOISE: Final = random.Random(3).randbytes(60_000).replace(b"\n", b"\r")


class Attack:
    """So many of a kind against `where` while the block lasts, which begins when all who stay are connected, or try.

    `connected` is how many are.
    """

    def __init__(self, kind: str, count: int, where: int | str, words: str = "hello") -> None:
        self._command = [sys.executable, str(Path(__file__).resolve()), kind, str(count), str(where), words]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.connected = int(self._process.stdout.readline() or -1)
        assert self.connected >= 0, f"{self._command} has failed"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=120)
        assert not self._process.returncode


class _Crowd:
    """The connections of those who stay."""

    def __init__(self, kind: str, where: str, words: bytes) -> None:
        self._kind = kind
        self._where = where
        self._words = words
        self._socks: list[socket.socket] = []

    def connect(self, count: int) -> int:
        """Have `count` of them connect and do what they do; returns how many could."""
        lost = 0
        while len(self._socks) < count and lost < _IN_VAIN:
            try:
                sock = begin(self._where, len(self._socks))
            except OSError:  # a full backlog of a unix socket
                time.sleep(0.01)
                lost += 1
                continue
            self._socks.append(sock)
            with contextlib.suppress(OSError):
                self._act(sock)
        return sum(_connected(sock) for sock in self._socks)

    def _act(self, sock: socket.socket) -> None:
        if self._kind in ("deaf", "murmur"):
            sock.send(self._words)
        elif self._kind == "half":
            sock.shutdown(socket.SHUT_WR)
        elif self._kind == "drip":
            sock.send(self._words[:1])

    def turn(self, number: int) -> None:
        """Go on; called once a second, with 1 first."""
        for sock in self._socks:
            with contextlib.suppress(OSError):
                if self._kind in ("drip", "murmur"):
                    sock.send(self._words[number % len(self._words) :][:1])
                elif self._kind == "garbage":
                    sock.send(_NOISE)

    def leave(self) -> None:
        """Reset all."""
        for sock in self._socks:
            _reset(sock)


def begin(where: str, number: int) -> socket.socket:
    """Return the socket of a connection, the `number`th; over TCP it waits for the handshake a second at most."""
    if not where.isdecimal():
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        address: str | tuple[str, int] = where
    else:
        sock = socket.socket()
        sock.settimeout(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((f"127.7.{number % 250}.1", 0))  # the ports of one address do not suffice
        address = ("127.0.0.1", int(where))
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    sock.close()


def _pass(kind: str, rate: int, where: str) -> None:
    """Connect and go, `rate` times a second, until stdin ends."""
    began, done = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        while done < rate * (time.monotonic() - began):
            done += 1
            with contextlib.suppress(OSError):
                sock = begin(where, done)
                _reset(sock) if kind == "rst" else sock.close()


def main(kind: str, count: int, where: str, words: str) -> None:
    """Say how many are connected, and go on until stdin ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if kind in PASS:
        print(0, flush=True)
        return _pass(kind, count, where)
    crowd = _Crowd(kind, where, WORDS[words])
    print(crowd.connect(count), flush=True)
    number = 0
    while not select.select([sys.stdin], [], [], 1)[0]:
        number += 1
        crowd.turn(number)
    return crowd.leave()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
