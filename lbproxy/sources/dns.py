"""Servers from name servers: the addresses of a name, or its SRV records, asked every 30 s.

An address stays until no answer has had it for as long as one of a configured name does (`balance.group.MISSED`), and
for the same reason: some name servers give a few in turn, and one of several is behind the others.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Sequence
from time import monotonic
from typing import Final

from lbproxy.balance.group import MISSED
from lbproxy.checks.resolve import look_up
from lbproxy.config.address import read_address
from lbproxy.config.model import Address, ServerConfig
from lbproxy.sources import srv
from lbproxy.sources.found import Listener
from lbproxy.threads import in_thread

_EVERY: Final = 30.0
_AGAIN: Final = 5.0
"""Seconds between two questions, and after one without an answer."""
_PATIENCE: Final = 3.0
"""Seconds that one name server has."""
_MOST: Final = 65535
_RESOLV_CONF: Final = "/etc/resolv.conf"
_PORT: Final = 53


def name_servers(text: str) -> list[tuple[str, int]]:
    """Return where the name servers of a resolv.conf are: the first three, as the C library has it."""
    words = [line.split() for line in text.splitlines()]
    found = [line[1].partition("%")[0] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return [(host, _PORT) for host in found[:3]] or [("127.0.0.1", _PORT)]


def ask(name: str, at: Sequence[tuple[str, int]]) -> list[ServerConfig]:
    """Return the servers that the SRV records of `name` give, by the first name server that answers.

    Waits for that. Raises OSError or ValueError.
    """
    problem: Exception = OSError("there is no name server")
    for where in at:
        try:
            return _ask(name, where)
        except (OSError, ValueError) as error:  # the next one may know
            problem = error
    raise problem


def _ask(name: str, where: tuple[str, int]) -> list[ServerConfig]:
    asked = srv.question(name, secrets.randbelow(1 << 16))
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(where)  # what comes from elsewhere is not even seen
        sock.send(asked)
        ends = monotonic() + _PATIENCE
        while (left := ends - monotonic()) > 0:
            sock.settimeout(left)
            data = sock.recv(_MOST)
            if srv.answers(asked, data):
                try:
                    return srv.servers(data)
                except srv.TruncatedError:
                    return srv.servers(_over_tcp(asked, where))
    raise TimeoutError("no answer")


def _over_tcp(asked: bytes, where: tuple[str, int]) -> bytes:
    with socket.create_connection(where, _PATIENCE) as sock:
        sock.sendall(len(asked).to_bytes(2, "big") + asked)
        data = b""
        ends = monotonic() + _PATIENCE
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            sock.settimeout(max(ends - monotonic(), 0.001))
            more = sock.recv(_MOST)
            if not more:
                raise OSError("the name server has closed the connection")
            data += more
    size = int.from_bytes(data[:2], "big")
    if not srv.answers(asked, data[2 : 2 + size]):
        raise ValueError("an answer to another question")
    return data[2 : 2 + size]


async def _servers(name: str, at: Sequence[tuple[str, int]] | None) -> list[ServerConfig]:
    if not name.startswith("_"):
        address = read_address(name, bound=False)
        places = [Address(where[0], address.port) for _, where in await look_up(address)]
        return [ServerConfig(address=read_address(str(place), bound=False)) for place in places]

    def wait() -> list[ServerConfig]:
        if at is not None:
            return ask(name, at)
        with open(_RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            return ask(name, name_servers(file.read(1 << 16)))

    return await in_thread(wait, f"look up {name}")


async def follow(name: str, listener: Listener, at: Sequence[tuple[str, int]] | None = None) -> None:
    """Tell `listener` where `name` leads, for ever; `at` are the name servers, by default those of the machine."""
    named: dict[Address, tuple[float, ServerConfig]] = {}
    while True:
        pause = _EVERY
        try:
            found = await _servers(name, at)
            now = monotonic()
            known = named | {server.address: (now, server) for server in found}
            stay = {address: (seen, each) for address, (seen, each) in known.items() if now - seen < MISSED}
            listener.answered([server for _, server in stay.values()] if found else [])
            named = stay if found else named
        except (OSError, ValueError) as error:
            listener.failed(getattr(error, "strerror", None) or str(error))
            pause = _AGAIN
        await asyncio.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, nothing secret
