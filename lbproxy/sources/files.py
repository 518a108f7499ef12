"""Servers from files: each is a list as `servers` is in the configuration.

One file that cannot be read, or is wrong, makes the whole answer void: half of what an operator has written is not what
he meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from glob import glob
from typing import Final

from lbproxy.config.load import regular_file, servers
from lbproxy.config.model import ServerConfig
from lbproxy.errors import LbproxyError
from lbproxy.sources.found import Listener
from lbproxy.threads import in_thread

_MOST_FILES: Final = 256
"""Files that a pattern may match; more are no list of masters."""


def read(pattern: str) -> tuple[ServerConfig, ...]:
    """Return the servers in all files that match. Raises OSError, LbproxyError or ValueError."""
    files = sorted(glob(pattern))
    if len(files) > _MOST_FILES:
        raise ValueError(f"more than {_MOST_FILES} files match")
    found: list[ServerConfig] = []
    for file in files:
        try:
            found += servers(regular_file(file).decode(), file)
        except OSError as error:
            raise OSError(error.errno, f"{file} cannot be read: {error.strerror}") from None
    return tuple(found)


async def follow(pattern: str, changed: Callable[[], Awaitable[None]], listener: Listener) -> None:
    """Tell `listener` what the files say, now and whenever something may have `changed`; never returns."""
    while True:
        try:
            listener.answered(await in_thread(lambda: read(pattern), "read servers"))
        except OSError as error:
            listener.failed(error.strerror or str(error))
        except (LbproxyError, ValueError) as error:
            listener.failed(str(error).split("\n")[0])
        await changed()
