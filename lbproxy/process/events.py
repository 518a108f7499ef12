"""What has happened, for `lbproxy events` and the page: the last lines of the log at info and above, kept in memory."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lbproxy.status.shapes import Event

MOST: Final = 1000
"""Some hundred bytes each; a node on which nothing fails has ten a day."""


class Events(logging.Handler):
    """Remembers what is said by any logger but those of `without`, whatever of it is let onto stderr."""

    def __init__(self, without: Collection[str] = ()) -> None:
        super().__init__(logging.INFO)
        self._without = without
        self._events: deque[Event] = deque(maxlen=MOST)

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a record."""
        if record.name not in self._without:
            self._events.append(event_of(record))

    def all(self) -> list[Event]:
        """Return them, the newest last."""
        return list(self._events)


def event_of(record: logging.LogRecord) -> Event:
    """Return what a record says; its logger is named by the last part alone, the time is UTC."""
    stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"ts": stamp, "level": record.levelname.lower(), "logger": short(record.name), "msg": record.getMessage()}


def short(name: str) -> str:
    """Return the last part of a logger's name."""
    return name.rpartition(".")[2]
