"""Whether an address of a server leads back to the proxy that would dial it.

Such a server answers checks, and one client of it uses up every descriptor. The rules of the configuration find it
where it is written down; here it is found behind a name, and among the addresses of this machine when it listens on
all. What no address shows is found by `proxy.circles`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lbproxy.balance.server import Endpoint
from lbproxy.config.model import Address
from lbproxy.net.sockets import is_here

_ALL: Final = ("0.0.0.0", "::")


def leads_back(endpoint: Endpoint, listens: Iterable[Address]) -> bool:
    """Whether who connects to `endpoint` meets somebody who listens on one of `listens`."""
    host, port = endpoint[1][0], endpoint[1][1]
    for each in listens:
        if each.port != port or (":" in each.host) != (":" in host):
            continue
        if each.host == host or (host in _ALL and _loopback(each.host)):  # the kernel makes loopback of it
            return True
        if each.host in _ALL and is_here(endpoint):
            return True
    return False


def _loopback(host: str) -> bool:
    return host == "::1" or host.startswith("127.")
