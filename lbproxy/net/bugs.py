"""What becomes of a connection that meets a bug of ours: it is closed and told of, and nobody else suffers for it.

So is one for which there is no memory or descriptor where it cannot go on without; that is no bug, and said in a line.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from lbproxy.net.reasons import SHORTAGE, reason

log = logging.getLogger("lbproxy.net.poller")


class Crashable(Protocol):
    """A connection, as far as it matters here."""

    def crashed(self) -> None:
        """Let go of everything."""


def cannot_go_on(error: int | None) -> None:
    """Tell of a connection that is closed for an errno that neither peer has brought about."""
    log.error("a connection cannot go on and is closed: %s", os.strerror(error or 0))


C = TypeVar("C", bound=Crashable)


def met_bug(item: Crashable) -> None:
    """Close what has just raised, and tell of it; to be called where that is caught."""
    error = sys.exc_info()[1]
    if isinstance(error, OSError) and reason(error.errno) == SHORTAGE:
        cannot_go_on(error.errno)
    else:
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
