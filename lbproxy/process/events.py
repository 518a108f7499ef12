"""What has happened, for `lbproxy events` and the page: the last lines of the log at info and above.

They are kept in memory, and in a file that the next process goes on with, whichever way that comes about: it has no
name, systemd holds it (`handover.keeper`), and an upgrade passes it on. A line of it is an event as JSON. What a
process that is killed leaves half written is passed over.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from lbproxy.status.shapes import Event

MOST: Final = 1000
"""Some hundred bytes each; a node on which nothing fails has ten a day."""
ROOM: Final = 256 * 1024
"""Bytes of the file at most. When it is full it begins anew with the newest, half full."""
_LONGEST: Final = 4096
"""Characters of an event that are kept."""
_KEYS: Final = {"ts", "level", "logger", "msg"}


class Events(logging.Handler):
    """Remembers what is said by any logger but those of `without`, whatever of it is let onto stderr."""

    def __init__(self, without: Collection[str] = ()) -> None:
        super().__init__(logging.INFO)
        self._without = without
        self._events: deque[Event] = deque(maxlen=MOST)
        self.file = -1
        """Where they are kept, -1 if nowhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a record."""
        if record.name in self._without:
            return
        event = event_of(record)
        self._events.append(event)
        if self.file >= 0:
            with suppress(OSError):  # no memory: then it is kept in this process alone
                self._write(event)

    def all(self) -> list[Event]:
        """Return them, the newest last."""
        return list(self._events)

    def keep_in(self, fd: int) -> None:
        """Go on with those that are in the file `fd`, and keep what is remembered there from now on. Raises OSError."""
        self.acquire()
        try:
            self._events = deque([*_read(fd), *self._events], maxlen=MOST)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
            self.file = fd
            self._begin_anew()
        finally:
            self.release()

    def leave(self) -> None:
        """Write no more: the file is another process's."""
        self.file = -1

    def _write(self, event: Event) -> None:
        line = _line(event)
        if os.fstat(self.file).st_size + len(line) > ROOM:
            self._begin_anew()
        else:
            os.write(self.file, line)

    def _begin_anew(self) -> None:
        room = ROOM // 2

        def fits(line: bytes) -> bool:
            nonlocal room
            room -= len(line)
            return room >= 0

        newest = list(takewhile(fits, map(_line, reversed(self._events))))
        os.ftruncate(self.file, 0)
        os.write(self.file, b"".join(reversed(newest)))


def _line(event: Event) -> bytes:
    return json.dumps({**event, "msg": event["msg"][:_LONGEST]}, ensure_ascii=False).encode(errors="replace") + b"\n"


def _read(fd: int) -> list[Event]:
    found: list[Event] = []
    for line in os.pread(fd, ROOM, 0).split(b"\n"):
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict) and event.keys() == _KEYS:
                found.append(cast("Event", {key: str(value) for key, value in event.items()}))
    return found


def event_of(record: logging.LogRecord) -> Event:
    """Return what a record says; its logger is named by the last part alone, the time is UTC."""
    stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"ts": stamp, "level": record.levelname.lower(), "logger": short(record.name), "msg": record.getMessage()}


def short(name: str) -> str:
    """Return the last part of a logger's name."""
    return name.rpartition(".")[2]
