"""How log lines look: text or JSON on stderr, with the journal's priority prefix where stderr is the journal.

How they get there is `output`'s business: when nobody reads them they are dropped, and the proxy goes on.

Loggers are named after their module; a line shows the last part of the name. What is logged at which level:

- error    a refused reload, a task that died: something is wrong and stays wrong until somebody acts
- warning  a server went down, a limit was reached, an auxiliary service could not start
- info     start, stop, reload and what it changed, a server came back
- debug    single connections and attempts

`lbproxy.access` is the access log: one line per finished connection, at info, switched by `log.access` alone.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from lbproxy.config.model import Log
from lbproxy.process.events import Events, event_of, short
from lbproxy.process.output import Output

if TYPE_CHECKING:
    from lbproxy.status.shapes import Event

log = logging.getLogger(__name__)

_STDERR: Final = 2  # by number: where it was closed, `sys.stderr` is None
_LAST_WORDS: Final = 0.3
"""Seconds that the end of the process may be put off so that its last lines are read."""
ACCESS = "lbproxy.access"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_events: Final = Events(without={ACCESS})


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object:
        """Take in a record's text, with its line break."""

    def fileno(self) -> int:
        """Return the descriptor behind it; raises OSError where there is none."""


def setup(settings: Log, stream: Stream | None = None) -> None:
    """Send every log record to `stream` (default stderr) as `settings` ask; may be called again after a reload."""
    stream = _stderr() if stream is None else stream
    handler = logging.StreamHandler(stream)
    journal = in_journal(stream, os.environ)
    formatter: logging.Formatter = JsonLines() if settings.format == "json" else TextLines(bare=journal)
    handler.setFormatter(Journal(formatter) if journal else formatter)
    level = _LEVELS[settings.level]
    handler.addFilter(lambda record: record.levelno >= level or record.name == ACCESS)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, logging.StreamHandler) and isinstance(old.formatter, JsonLines | TextLines | Journal):
            root.removeHandler(old)
    root.addHandler(handler)
    root.addHandler(_events)
    root.setLevel(min(level, _events.level))
    access = logging.getLogger(ACCESS)
    access.setLevel(logging.INFO)
    access.disabled = not settings.access
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it announces every event of the directory at info


class Relay(logging.Handler):
    """Passes records on to `to` instead of writing them: another process does."""

    def __init__(self, to: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        self._to(record)


def relay(settings: Log, to: Callable[[logging.LogRecord], None]) -> None:
    """Do as `setup`, but pass all records on to `to`, except for the access log: those lines are too many."""
    setup(settings)
    root = logging.getLogger()
    streams = [each for each in root.handlers if isinstance(each, logging.StreamHandler)]
    access = logging.getLogger(ACCESS)
    access.propagate = False
    access.handlers[:] = streams
    root.handlers[:] = [Relay(to)]


def born() -> None:
    """Begin anew in a process that was forked: the thread that writes the log is not in it."""
    _stderr.cache_clear()


def whole(record: logging.LogRecord) -> str:
    """Return what a record says, with the traceback if it has one."""
    text = record.getMessage()
    return f"{text}\n{logging.Formatter().formatException(record.exc_info)}" if record.exc_info else text


def dropped() -> int:
    """Return how many lines were dropped because nobody read them."""
    return _stderr().dropped


def events() -> list[Event]:
    """Return what has been logged lately at info and above, whatever the level; the newest last."""
    return _events.all()


def keep_events(fd: int) -> None:
    """Go on with the events in the file `fd`, and keep them there."""
    try:
        _events.keep_in(fd)
    except OSError as error:
        log.warning("what happens cannot be kept for the next process: %s", error.strerror)


def leave_events() -> None:
    """Keep no more events: the next process does."""
    _events.leave()


def finish() -> None:
    """Have the last lines written, within a moment; for an end that runs no exit handlers."""
    _stderr().close(_LAST_WORDS)


@cache
def _stderr() -> Output:
    output = Output(_STDERR, lambda lines: log.warning("%d lines of the log were dropped: nobody read it", lines))
    atexit.register(output.close, _LAST_WORDS)
    return output


def in_journal(stream: Stream, environ: Mapping[str, str]) -> bool:
    """Tell whether `stream` leads straight to the journal: systemd.exec(5), $JOURNAL_STREAM is `device:inode`."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class TextLines(logging.Formatter):
    """`2026-11-23 12:00:00.123 INFO  reload: ...`; without the time for the journal, which has its own."""

    def __init__(self, bare: bool = False) -> None:
        super().__init__("%(short)s: %(message)s" if bare else "%(stamp)s %(levelname)-5s %(short)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback on lines of its own below."""
        record.short = short(record.name)
        record.stamp = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return super().format(record)


class JsonLines(logging.Formatter):
    """One object per record and line: ts (UTC), level, logger, msg, and exc with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON cannot hold is written as its text."""
        line: dict[str, object] = {**event_of(record)}
        if record.exc_info:
            line["exc"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Journal(logging.Formatter):
    """Another formatter's lines, each with the `<N>` that sd-daemon(3) reads as the priority."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines; every one is an entry of its own in the journal and needs its own prefix."""
        if record.levelno >= logging.ERROR:
            prefix = "<3>"
        elif record.levelno >= logging.WARNING:
            prefix = "<4>"
        else:
            prefix = "<6>" if record.levelno >= logging.INFO else "<7>"
        return "\n".join(prefix + line for line in self._inner.format(record).split("\n"))
