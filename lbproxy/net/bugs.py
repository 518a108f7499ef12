"""What becomes of a connection that meets a bug of ours: it is closed and told of, and nobody else suffers for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

log = logging.getLogger("lbproxy.net.poller")


class Crashable(Protocol):
    """A connection, as far as it matters here."""

    def crashed(self) -> None:
        """Let go of everything."""


C = TypeVar("C", bound=Crashable)


def met_bug(item: Crashable) -> None:
    """Close what has just raised, and tell of it; to be called where that is caught."""
    log.exception("a connection met a bug and is closed")  # noqa: LOG004 (see above)
    try:
        item.crashed()
    except Exception:
        log.exception("and closing it met another")


def for_each(items: Iterable[C], act: Callable[[C], None]) -> None:
    """Have every one of `items` act; one that meets a bug keeps neither the others from it nor the caller."""
    for item in items:
        try:
            act(item)
        except Exception:
            met_bug(item)
