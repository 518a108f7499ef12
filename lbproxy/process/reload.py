"""When the configuration changes: SIGHUP, `lbproxy reload` and the watched file all end in `Reloader.reload`.

A new file replaces the old configuration whole or not at all. The last good one stays until then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial

from lbproxy.config.load import Reading, read_file, regular_file
from lbproxy.config.model import Config
from lbproxy.errors import ConfigError, LbproxyError, Problem
from lbproxy.process.watch import Watch
from lbproxy.record import dataclass
from lbproxy.status.snapshot import ReloadView
from lbproxy.threads import in_thread

log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds to read the file in; on a mount that hangs it may take for ever


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What became of a reload: what changed, or why it was refused, a line each."""

    applied: bool
    lines: tuple[str, ...]


class Reloader:
    """Holds the configuration in force and replaces it through `apply`.

    `apply` goes over to a configuration and returns what changed; it has the bytes of the file too, to be remembered.
    When it raises an LbproxyError nothing has changed.
    """

    def __init__(
        self,
        file: str,
        config: Config,
        apply: Callable[[Config, bytes], Awaitable[list[str]]],
        content: bytes | None,
        error: str | None = None,
    ) -> None:
        """`content` is what the file had in it; `error` tells that `config` is not what that says, and why."""
        self.config = config
        self._file = file
        self._apply = apply
        self.content = content
        """What was in the file when it was read last, None if it could not be read."""
        self._reading = False
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
        try:
            config, content = await self._read()
            lines = await self._apply(config, content)
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

    async def _read(self) -> tuple[Config, bytes]:
        """Read the file, once and off the loop. Raises ConfigError."""
        if self._reading:
            raise self._unreadable("the last try still waits for it")
        self._reading = True
        try:
            async with asyncio.timeout(_PATIENCE):
                reading = await in_thread(self._read_file, "read configuration")
        except TimeoutError:
            raise self._unreadable(f"no answer within {_PATIENCE:g} s") from None
        self.content = reading.content
        if isinstance(reading.config, ConfigError):
            raise reading.config
        return reading.config, reading.content or b""

    def _read_file(self) -> Reading:
        try:
            return read_file(self._file)
        finally:
            self._reading = False

    def _unreadable(self, why: str) -> ConfigError:
        return ConfigError([Problem(self._file, 0, "", f"cannot be read: {why}")])

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
            with closing(Watch(self._file)) as watch:
                while self._watching.is_set():
                    await watch.wait()
                    try:
                        content = await in_thread(partial(_content, self._file), "compare configuration")
                    except OSError:
                        continue
                    if self._watching.is_set() and content != self.content:
                        self.content = content
                        log.info("%s has changed", self._file)
                        await reload()

    def _set_watching(self) -> None:
        if self.config.watch:
            self._watching.set()
        else:
            self._watching.clear()


def _content(file: str) -> bytes | None:
    """Return what is in `file`, None if it cannot be read. Raises OSError for what says nothing of the file."""
    try:
        return regular_file(file)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None
