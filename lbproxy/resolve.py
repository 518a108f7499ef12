"""Host names of servers: looked up off the loop, again every 30 s, and soon after a connect has failed.

getaddrinfo reads /etc/hosts anew each time, so an edit there is seen by the next look-up. A name that does not exist
leaves its server without an address, which is down; a resolver that does not answer leaves it the addresses it had.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final

from lbproxy import sock as socks
from lbproxy.balance.server import Endpoint, Server

log = logging.getLogger(__name__)

_EVERY: Final = 30.0
_SOON: Final = 1.0
"""Seconds between two look-ups at least, however often connects fail."""
_UNKNOWN: Final = (socket.EAI_NONAME, socket.EAI_NODATA)


def literal(server: Server) -> bool:
    """Give a server whose host is an IP address its one endpoint; False if it is a name that must be looked up."""
    address = server.settings.address
    family = socks.literal(address.host)
    if family:
        server.endpoints = [(family, socks.sockaddr(address.host, address.port))]
    return bool(family)


class Resolver:
    """Keeps the endpoints of one server up to date; sets `first` when the first look-up is over, well or not."""

    def __init__(self, server: Server, first: asyncio.Event) -> None:
        self._server = server
        self._first = first
        self._poked = asyncio.Event()
        self._complained = False

    def poke(self) -> None:
        """Look up again soon: what is known does not work."""
        self._poked.set()

    async def run(self) -> None:
        """Look up for ever."""
        while True:
            await self.look_up()
            self._first.set()
            await asyncio.sleep(_SOON)
            try:
                await asyncio.wait_for(self._poked.wait(), _EVERY - _SOON)
            except TimeoutError:
                pass
            self._poked.clear()

    async def look_up(self) -> None:
        """Look up once."""
        server = self._server
        host, port = server.settings.address.host, server.settings.address.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in _UNKNOWN:
                server.endpoints = []
            if not self._complained:
                self._complained = True
                log.warning("%s: cannot look up %s: %s", server.name, host, error.strerror)
            return
        if self._complained:
            self._complained = False
            log.info("%s: %s is known again", server.name, host)
        endpoints: list[Endpoint] = [(family, address) for family, _, _, _, address in found]
        # What worked last stays first.
        server.endpoints = sorted(dict.fromkeys(endpoints), key=lambda e: e not in server.endpoints[:1])
