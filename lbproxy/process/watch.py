"""When to look at a file again: at once where inotify tells of a change, and every 2 s in any case."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from functools import cache, partial
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, cast

from lbproxy.threads import in_thread
from lbproxy.warnonce import WarnOnce

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

log = logging.getLogger(__name__)

# A file is read once nothing has happened in its directory for this long (at least; twice it at most), so that a
# save of several steps is seen as one. It is also how often the watching thread wakes up: 3 times a second at rest.
_QUIET_MS = 500
_AT_LATEST_MS = 5000  # in a directory that is never quiet
_LOOK_AGAIN = 2.0  # seconds; for what has no event: a directory that is not there, or is reached by another way

Directories = dict[str, tuple[int, int]]
"""Their paths, each with the device and the inode that it leads to; zeros for one that is not there."""


class Watch:
    """Watches the directories of one file and not the file, which is replaced rather than written by most.

    All that touches a file system is done in a thread: it may be one that hangs.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._there: Directories = {}
        self._inotify: RustNotify | None = None
        self._closed = threading.Event()
        self._warning = WarnOnce()

    async def wait(self) -> None:
        """Return when the file may have changed, after 2 s at the latest."""
        there = await in_thread(partial(directories, self._file), "watch")
        if self._inotify is None or there != self._there:
            self._there = there
            self._inotify = None
            try:
                self._inotify = await in_thread(self._open, "watch")
            except Exception as error:
                self._complain(error)
                await asyncio.sleep(_LOOK_AGAIN)
                return
            if self._warning.over():
                log.info("%s is watched by inotify again", self._file)
        if await in_thread(partial(self._changes, self._inotify), "watch"):
            self._inotify = None  # what has changed may be where the file is

    def close(self) -> None:
        """Watch no longer; a thread that waits ends within half a second."""
        self._closed.set()
        self._inotify = None

    def _open(self) -> RustNotify:
        recursive = force_polling = debug = ignore_permission_denied = False
        return _library()(list(self._there), debug, force_polling, 0, recursive, ignore_permission_denied)

    def _changes(self, inotify: RustNotify) -> bool:
        found = inotify.watch(_AT_LATEST_MS, _QUIET_MS, int(_LOOK_AGAIN * 1000), self._closed)
        return not isinstance(found, str)

    def _complain(self, error: Exception) -> None:
        if isinstance(error, FileNotFoundError):
            log.debug("cannot watch %s: %s", self._file, error)
        elif self._warning.news("inotify"):
            # Not only OSError: the library has an error of its own for what it does not foresee, EMFILE for one.
            log.warning("%s is looked at every %g s, without inotify: %s", self._file, _LOOK_AGAIN, error)


@cache
def _library() -> type[RustNotify]:
    """Return the class that watches. Raises ImportError.

    It is all that is wanted of watchfiles: without the package around it, which imports anyio and multiprocessing to
    offer what is not used here, it takes half of the memory.
    """
    name = "watchfiles._rust_notify"
    package = PathFinder.find_spec("watchfiles")
    spec = PathFinder.find_spec(name, package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("type[RustNotify]", module.RustNotify)


def directories(file: str) -> Directories:
    """Return the directories in which a change may change the content of `file`, and which directories they are now.

    That is its own, and that of everything it leads to by symbolic links: a ConfigMap's file leads through `..data`.
    """
    path = os.path.abspath(file)
    found: Directories = {}
    for place in (path, os.path.realpath(path)):
        directory = os.path.dirname(place)
        try:
            stat = os.stat(directory)
        except OSError:
            found[directory] = (0, 0)
        else:
            found[directory] = (stat.st_dev, stat.st_ino)
    return found
