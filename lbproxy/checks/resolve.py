"""Host names of servers: looked up off the loop, again every 30 s, and soon after a connect has failed.

getaddrinfo reads /etc/hosts anew each time, so an edit there is seen by the next look-up. Only an answer with addresses
in it changes anything: a name that is gone, has no address or cannot be looked up keeps those it had last, for a name
server that has lost its zone, or a file that is just being written, says nothing of the machines behind the name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

from lbproxy.balance.server import Endpoint
from lbproxy.config.model import Address, ServerConfig
from lbproxy.net import sockets as socks
from lbproxy.net.contract import SocketAddress
from lbproxy.threads import in_thread
from lbproxy.warnonce import WarnOnce

log = logging.getLogger(__name__)

Known = Mapping[Address, list[Endpoint]]
"""What the first look at some addresses has found."""

_PATIENCE: Final = 1.0
"""Seconds that a start or a reload waits at most for names: they are looked up on, and the port should be open soon."""
_EVERY: Final = 30.0
_SOON: Final = 1.0
"""Seconds between two look-ups at least, however often connects fail."""


def endpoint_of(address: Address) -> Endpoint | None:
    """Return the one endpoint of an IP address and port; None for a name, which must be looked up."""
    family = socks.family_of(address.host)
    return (family, socks.sockaddr(address.host, address.port)) if family else None


async def look_up(address: Address) -> list[Endpoint]:
    """Return the endpoints of a name and port; raises OSError (socket.gaierror)."""

    def ask() -> list[Endpoint]:
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys((int(family), cast("SocketAddress", where)) for family, _, _, _, where in infos))

    return await in_thread(ask, f"look up {address.host}")


async def known_endpoints(addresses: Iterable[Address]) -> Known:
    """Return what can be known of `addresses` within a second, so that no client comes to a server without one."""
    known: dict[Address, list[Endpoint]] = {}

    async def find(address: Address) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                known[address] = await look_up(address)
        except OSError:  # or the timeout; the resolver tells of it
            pass

    names = []
    for address in dict.fromkeys(addresses):
        endpoint = endpoint_of(address)
        if endpoint is not None:
            known[address] = [endpoint]
        else:
            names.append(address)
    await asyncio.gather(*map(find, names))
    return known


class Resolver:
    """Looks up the name of one server, for as long as `run` runs.

    `known` says whether that has been done just now; `found` is called with the addresses of each answer, None if there
    is none.
    """

    def __init__(self, server: ServerConfig, known: bool, found: Callable[[Sequence[Endpoint] | None], None]) -> None:
        self._server = server
        self._known = known
        self._found = found
        self._hurried = asyncio.Event()
        self._warning = WarnOnce()

    def hurry(self) -> None:
        """Look up again soon: what is known does not work."""
        self._hurried.set()

    async def run(self) -> None:
        """Look up for ever, beginning at once if nothing is known yet."""
        if self._known:
            await self._pause()
        while True:
            await self._refresh()
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(_SOON)
        try:
            async with asyncio.timeout(_EVERY - _SOON):
                await self._hurried.wait()
        except TimeoutError:
            pass
        self._hurried.clear()

    async def _refresh(self) -> None:
        name, host = self._server.name, self._server.address.host
        try:
            found = await look_up(self._server.address)
        except OSError as error:
            if self._warning.news(str(error.strerror)):
                log.warning("%s: cannot look up %s, what was known of it stands: %s", name, host, error.strerror)
            self._found(None)
            return
        if self._warning.over():
            log.info("%s: %s is known again", name, host)
        self._found(found)
