"""When the configuration changes: SIGHUP, `lbproxy reload` and the watched file all end in `Reloader.reload`.

A new file replaces the old configuration whole or not at all. The last good one stays until then.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from lbproxy.config.load import load
from lbproxy.config.model import Config
from lbproxy.errors import LbproxyError
from lbproxy.status.snapshot import ReloadView

log = logging.getLogger(__name__)

# A file is read once nothing has happened in its directory for this long (at least; twice it at most), so that a
# save of several steps is seen as one. It is also how often the watching thread wakes up: 3 times a second at rest.
_QUIET_MS = 500
_AT_LATEST_MS = 5000  # in a directory that is never quiet
_LOOK_AGAIN = 2.0  # seconds; for what has no event: a directory that is not there, or is reached by another way
_COMPARED_BYTES = 16 * 2**20  # far over what `load` accepts


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What became of a reload: what changed, or why it was refused, a line each."""

    applied: bool
    lines: tuple[str, ...]


class Reloader:
    """Holds the configuration in force and replaces it through `apply`.

    `apply` goes over to a configuration and returns what changed; when it raises an LbproxyError nothing has changed.
    """

    def __init__(
        self, file: str, config: Config, apply: Callable[[Config], Awaitable[list[str]]], error: str | None = None
    ) -> None:
        """`error` tells that `config` is not what the file says, which was refused for it."""
        self.config = config
        self._file = file
        self._apply = apply
        self._seen = _digest(file)
        self._watching = asyncio.Event()
        self._error = error
        self._last_success = time.time()
        self._results = Counter(success=0, failure=0)
        self._set_watching()

    @property
    def view(self) -> ReloadView:
        """The part of a snapshot that tells of this."""
        return ReloadView(
            file=self._file,
            last_reload_successful=self._error is None,
            last_reload_error=self._error,
            last_success_timestamp=self._last_success,
            reloads=dict(self._results),
        )

    async def reload(self) -> ReloadResult:
        """Read the file and go over to it. One at a time: the caller sees to that."""
        self._seen = _digest(self._file)
        try:
            config = load(self._file)
            lines = await self._apply(config)
        except LbproxyError as error:
            return self._refused(str(error).split("\n"))
        except Exception as error:
            log.exception("bug: a reload failed half-way")
            return self._refused([f"internal error: {error!r}"])
        self.config = config
        self._set_watching()
        self._error = None
        self._last_success = time.time()
        self._results["success"] += 1
        for line in lines:
            log.info("%s", line)
        return ReloadResult(applied=True, lines=tuple(lines))

    def _refused(self, why: list[str]) -> ReloadResult:
        self._error = "\n".join(why)
        self._results["failure"] += 1
        for line in why:
            log.error("refused, the old configuration keeps running: %s", line)
        return ReloadResult(applied=False, lines=tuple(why))

    async def watch(self, reload: Callable[[], Awaitable[object]]) -> None:
        """Call `reload` whenever the content of the file has changed; idle while the configuration says `watch: false`.

        Runs until cancelled.
        """
        while True:
            await self._watching.wait()
            await self._watch_directories(reload)

    async def _watch_directories(self, reload: Callable[[], Awaitable[object]]) -> None:
        """Watch until something happens, then return to be called again: it may have moved the file elsewhere.

        The directories and not the file, which is replaced rather than written by most who change it.
        """
        from watchfiles import awatch

        there = _directories(self._file)
        changes = awatch(
            *there,
            watch_filter=None,
            step=_QUIET_MS,
            debounce=_AT_LATEST_MS,
            rust_timeout=int(_LOOK_AGAIN * 1000),
            yield_on_timeout=True,
            recursive=False,
            force_polling=False,
        )
        try:
            async with aclosing(changes):
                async for changed in changes:
                    if not self._watching.is_set():
                        return
                    await self._compare(reload)
                    if changed or _directories(self._file) != there:
                        return
        except OSError as error:  # the directory is not there, or there are no inotify watches left
            log.debug("cannot watch %s: %s", self._file, error)
            await asyncio.sleep(_LOOK_AGAIN)
            await self._compare(reload)

    async def _compare(self, reload: Callable[[], Awaitable[object]]) -> None:
        if self._watching.is_set() and (seen := _digest(self._file)) != self._seen:
            self._seen = seen
            log.info("%s has changed", self._file)
            await reload()

    def _set_watching(self) -> None:
        if self.config.watch:
            self._watching.set()
        else:
            self._watching.clear()


def _digest(file: str) -> bytes | None:
    """Return what stands for the content of `file`; None where there is none to read."""
    try:
        if not Path(file).is_file():  # opening a pipe would wait for its writer
            return None
        with Path(file).open("rb") as content:
            return hashlib.sha256(content.read(_COMPARED_BYTES)).digest()
    except OSError:
        return None


def _directories(file: str) -> dict[str, tuple[int, int]]:
    """Return the directories in which a change may change the content of `file`, and which directories they are now.

    That is its own, and that of everything it leads to by symbolic links: a ConfigMap's file leads through `..data`.
    """
    path = os.path.abspath(file)  # noqa: PTH100 - Path.absolute keeps `..`, which is wrong after a link
    found: dict[str, tuple[int, int]] = {}
    for place in (path, os.path.realpath(path)):
        directory = os.path.dirname(place)  # noqa: PTH120 - of the name as it is
        try:
            stat = Path(directory).stat()
        except OSError:
            found[directory] = (0, 0)
        else:
            found[directory] = (stat.st_dev, stat.st_ino)
    return found
