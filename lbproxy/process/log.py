"""How log lines look: text or JSON on stderr, with the journal's priority prefix where stderr is the journal.

Loggers are named after their module; a line shows the last part of the name. What is logged at which level:

- error    a refused reload, a task that died: something is wrong and stays wrong until somebody acts
- warning  a server went down, a limit was reached, an auxiliary service could not start
- info     start, stop, reload and what it changed, a server came back
- debug    single connections and attempts

`lbproxy.access` is the access log: one line per finished connection, at info, switched by `log.access` alone.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO

from lbproxy.config.model import Log

ACCESS = "lbproxy.access"
_OFF = logging.CRITICAL + 1
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def setup(log: Log, stream: IO[str] | None = None) -> None:
    """Send every log record to `stream` (default stderr) as `log` asks; may be called again after a reload."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    formatter: logging.Formatter = JsonLines() if log.format == "json" else TextLines(in_journal(stream, os.environ))
    handler.setFormatter(Journal(formatter) if in_journal(stream, os.environ) else formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, logging.StreamHandler) and isinstance(old.formatter, JsonLines | TextLines | Journal):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[log.level])
    logging.getLogger(ACCESS).setLevel(logging.INFO if log.access else _OFF)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it announces every event of the directory at info


def in_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
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
        record.short = _short(record.name)
        record.stamp = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return super().format(record)


class JsonLines(logging.Formatter):
    """One object per record and line: ts (UTC), level, logger, msg, and exc with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON cannot hold is written as its text."""
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"ts": stamp.replace("+00:00", "Z"), "level": record.levelname.lower()}
        line |= {"logger": _short(record.name), "msg": record.getMessage()}
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


def _short(name: str) -> str:
    return name.rpartition(".")[2]
