"""The pages of the admin endpoint: what each is made of, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from time import perf_counter
from typing import Final, Protocol

from lbproxy.record import dataclass
from lbproxy.status.http import Reply
from lbproxy.status.render import conn_json, status_json
from lbproxy.status.shapes import Event
from lbproxy.status.slices import in_slices, json_pieces
from lbproxy.status.snapshot import ConnectionView, Snapshot, unusable

_JSON: Final = "application/json"
_SHARE: Final = 0.05
"""Of the loop's time, for a page at most: one that took 250 ms to make (the metrics of 400 servers) is shown for 5 s,
and one that took 0.3 ms (those of three) is as good as new."""
_FIRST: Final = 1.0
"""Seconds for which the first of its kind is shown at most: most of what it took was to import what makes it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A page that is still to be made, piece by piece."""

    pieces: Iterable[str]
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200


class Source(Protocol):
    """Who knows how things are: the daemon."""

    async def snapshot(self) -> Snapshot:
        """Return the state of everything, `config` included."""

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""

    def events(self) -> list[Event]:
        """Return what has happened, the newest last."""


async def _metrics(source: Source) -> Draft:
    from lbproxy.status import metrics  # its library takes 3 MiB, of which a node without Prometheus has no use

    return Draft(metrics.render(await source.snapshot()), metrics.CONTENT_TYPE)


async def _ready(source: Source) -> Draft:
    if names := unusable(await source.snapshot()):
        return Draft([f"{name}: no usable server\n" for name in names], status=503)
    return Draft(["ok\n"])


async def _status(source: Source) -> Draft:
    return Draft(json_pieces(status_json(await source.snapshot()), ",\n"), _JSON)


async def _conns(source: Source) -> Draft:
    conns, _ = await in_slices(map(conn_json, await source.connections()))
    return Draft(json_pieces(conns, ",\n"), _JSON)


async def _events(source: Source) -> Draft:
    return Draft(json_pieces(source.events(), ",\n"), _JSON)


async def _page(source: Source) -> Draft:
    from lbproxy.status.page import status_page  # few look at it, and it would be half a megabyte for all

    return Draft(status_page(status_json(await source.snapshot())), "text/html; charset=utf-8")


PAGES: Final[dict[str, Callable[[Source], Awaitable[Draft]] | None]] = {
    "/": _page,
    "/metrics": _metrics,
    "/livez": None,
    "/healthz": None,
    "/readyz": _ready,
    "/status": _status,
    "/conns": _conns,
    "/events": _events,
}
"""What makes each page of what a source knows; None where answering at all is the answer."""
PROBES: Final = ("/livez", "/healthz", "/readyz")
"""The pages that tell the network no more than that this node is well."""


class Pages:
    """Makes them of what `source` knows, one at a time, and shows each until another would not cost too much."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._making = asyncio.Lock()
        self._made: dict[str, tuple[Reply, float]] = {}

    async def get(self, path: str) -> Reply:
        """Return a page, which is one of `PAGES`. Raises what the source raises."""
        draft = PAGES[path]
        if draft is None:
            return Reply(200, b"ok\n")
        loop = asyncio.get_running_loop()
        async with self._making:
            reply, until = self._made.get(path, (None, 0.0))
            if reply is None or loop.time() >= until:
                most = inf if reply is not None else _FIRST
                reply, seconds = await self._make(draft)
                self._made[path] = reply, loop.time() + min(seconds / _SHARE, most)
            return reply

    async def _make(self, draft: Callable[[Source], Awaitable[Draft]]) -> tuple[Reply, float]:
        began = perf_counter()
        page = await draft(self._source)
        first = perf_counter() - began
        pieces, seconds = await in_slices(page.pieces)
        body = "".join(pieces).encode(errors="replace")
        return Reply(page.status, body, page.content_type), first + seconds
