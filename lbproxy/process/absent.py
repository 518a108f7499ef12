"""Addresses to listen on that cannot be had now: IPv6 where it is off, one that DHCP or keepalived brings later.

They are said once and tried again now and then; the others are served meanwhile. At a start under systemd, or with
`--wait-for-port`, that also holds for a port that is still another program's, the node's former proxy say: clients are
refused from its end to the next try, so these follow each other closely.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import Enum
from socket import SocketType
from typing import Final

from lbproxy.config.model import Address, Config
from lbproxy.errors import AbsentError, BindError, TakenError
from lbproxy.net import sockets as socks

log = logging.getLogger(__name__)

_AGAIN: Final = 0.25
"""Seconds between two tries, which cost a few system calls each."""
_SOON: Final = 0.02
"""The same while another program has the port: for so long nobody listens once it has gone."""


class Patience(Enum):
    """What is waited for that cannot be had, beside an address that is not there while another one is."""

    NONE = "nothing"
    TAKEN = "a port that is another program's"
    ALL = "everything: there is nothing to listen on yet"


class Absent:
    """Binds what is wanted, and knows what of it cannot be had yet."""

    def __init__(self, arrived: Callable[[dict[Address, SocketType]], Awaitable[None]]) -> None:
        """`arrived` is called with the sockets of addresses that are there at last."""
        self._arrived = arrived
        self._waiting: dict[Address, str] = {}

    @property
    def addresses(self) -> Collection[Address]:
        """Those that are not listened on."""
        return self._waiting.keys()

    def bind(
        self, wanted: Mapping[Address, str], there: Collection[Address], patience: Patience = Patience.NONE
    ) -> tuple[dict[Address, SocketType], list[str]]:
        """Listen on what is `wanted`, each for the proxy named, and not `there`; returns the sockets, and complaints.

        Raises BindError, with nothing bound, for a port that is taken, and when no wanted address is on this machine;
        less often with `patience`.
        """
        bound: dict[Address, SocketType] = {}
        absent: dict[Address, BindError] = {}
        try:
            for address, proxy in wanted.items():
                if address not in there:
                    try:
                        bound[address] = socks.listen(proxy, address)
                    except AbsentError as error:
                        absent[address] = error
                    except TakenError as error:
                        if patience is Patience.NONE and address not in self._waiting:
                            raise
                        absent[address] = error
            if len(absent) == len(wanted) and patience is not Patience.ALL and absent.keys() - self._waiting.keys():
                raise next(iter(absent.values()))
        except BindError:
            for sock in bound.values():
                sock.close()
            raise
        news = [f"{error}; trying again, the rest is served" for at, error in absent.items() if at not in self._waiting]
        self._waiting = {address: wanted[address] for address in absent}
        for line in news:
            log.warning("%s", line)
        return bound, news

    async def wait(self) -> None:
        """Try again for as long as this is not cancelled."""
        loop = asyncio.get_running_loop()
        pause, tried = _AGAIN, loop.time()
        while True:
            await asyncio.sleep(pause)
            before, tried, pause = tried, loop.time(), _AGAIN
            bound = {}
            for address in self._waiting:
                try:
                    bound[address] = socks.listening(address)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        pause = _SOON
            for address in bound:
                del self._waiting[address]
                missed = (loop.time() - before) * 1000
                log.info("listening on %s, which could not be had until %.0f ms ago at most", address, missed)
            if bound:
                await self._arrived(bound)


def listens(config: Config) -> dict[Address, str]:
    """Return every address to listen on, with its proxy's name."""
    return {address: name for name, proxy in config.proxies.items() for address in proxy.listen}
