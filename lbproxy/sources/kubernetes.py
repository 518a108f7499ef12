"""The API servers that Kubernetes itself knows of: the EndpointSlices of the service `kubernetes`, listed and watched.

It is asked through the proxy, by the address that clients use: whoever is up answers, and when one goes, his watch is
cut with all other connections to him and goes on elsewhere. A watch goes on from where the last one ended, and begins
with a list again when the API server says that this is too long ago (410). What cannot be had leaves what is known.
"""

from __future__ import annotations

import random
from asyncio import sleep
from collections.abc import Sequence
from time import monotonic
from typing import Final
from urllib.parse import urlencode

import h11

from lbproxy.checks.answer import plain
from lbproxy.config.model import Address, ServerConfig
from lbproxy.config.rules import WILDCARDS
from lbproxy.errors import LbproxyError
from lbproxy.net.sockets import family_of, sockaddr
from lbproxy.sources import kubeconfig
from lbproxy.sources.api import StatusError, get
from lbproxy.sources.found import Listener
from lbproxy.sources.slices import GoneError, Slices
from lbproxy.threads import in_thread

_PATH: Final = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?"
_SERVICE: Final = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
_WATCH: Final = (300, 600)
"""Seconds of a watch, as client-go has it: then the certificate, the token and the server are chosen anew."""
_MARGIN: Final = 30.0
"""Seconds that the API server may be late in ending it."""
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds from the end of a watch to the next one: longer each time as long as none lasts; and half of it by chance."""


async def follow(file: str, listens: Sequence[Address], listener: Listener) -> None:
    """Tell `listener` for ever what the API servers behind `listens` say, asked as the kubeconfig `file` says."""
    slices = Slices()
    pause = 0.0
    turn = 0
    while True:
        began = monotonic()
        try:
            await _once(file, listens[turn % len(listens)], slices, listener)
        except GoneError:
            slices.version = ""
        except StatusError as error:
            if error.status == 410:
                slices.version = ""
            else:
                listener.failed(str(error))
        except (OSError, h11.ProtocolError, LbproxyError) as error:
            listener.failed(plain(error))
            turn += 1
        except ValueError as error:
            slices.version = ""  # what cannot be believed would come again
            listener.failed(str(error))
        lasted = monotonic() - began > _LONGEST_PAUSE
        pause = _FIRST_PAUSE if lasted else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        await sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, nothing secret


async def _once(file: str, listen: Address, slices: Slices, listener: Listener) -> None:
    """List if need be, and watch once."""
    credentials = await in_thread(lambda: kubeconfig.read(file), "read kubeconfig")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}[listen.host] if listen.host in WILDCARDS else listen.host
    endpoint = family_of(host), sockaddr(host, listen.port)
    if not slices.version:
        async with get(endpoint, _PATH + urlencode(_SERVICE), credentials) as answer:
            slices.listed(await answer.whole())
        listener.answered(_servers(slices))
    seconds = random.randint(*_WATCH)  # noqa: S311
    watch = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": slices.version, "timeoutSeconds": seconds}
    async with get(endpoint, _PATH + urlencode({**_SERVICE, **watch}), credentials) as answer:
        async for event in answer.lines(seconds + _MARGIN):
            if slices.changed(event):
                listener.answered(_servers(slices))


def _servers(slices: Slices) -> list[ServerConfig]:
    return [ServerConfig(address=address) for address in slices.addresses()]
