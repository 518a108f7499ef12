"""The unix socket through which the CLI talks to the daemon.

One connection carries one command: a line of JSON, `{"command": "drain", "server": "m3"}`, is answered by a line of
JSON, `{"error": "..."}` if the command was refused. Which commands there are is in `commands`. Whoever may open the
socket (mode 0600: the daemon's own user, and root) may do everything.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from lbproxy.errors import ControlError, LbproxyError
from lbproxy.status.commands import Handler
from lbproxy.status.serving import Clients
from lbproxy.status.slices import in_slices, json_pieces
from lbproxy.tasks import Tasks

PATH_LIMIT = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with the final NUL)."""
REQUEST_LIMIT = 16 * 1024
REQUEST_TIMEOUT = 5.0
"""Seconds in which a peer must have sent its request, and taken the answer."""
MAX_CONNECTIONS = 32

log = logging.getLogger(__name__)


class ControlServer:
    """Listens on `path` and answers with `commands`."""

    def __init__(self, path: str, commands: Mapping[str, Handler], tasks: Tasks) -> None:
        self._path = Path(path)
        self._commands = commands
        self._clients = Clients(self._serve, tasks, "control command", MAX_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self, take_over: bool = False) -> None:
        """Bind and begin to answer. Raises ControlError, which names the path.

        With `take_over` another daemon's socket is replaced, without a moment in which there is none.
        """
        if take_over:
            new = self._path.with_name(f"{self._path.name}.new")
            sock = _bind(new)
            new.replace(self._path)
        else:
            sock = _bind(self._path)
        self._inode = _inode(self._path)
        self._server = await asyncio.start_unix_server(self._clients.accept, sock=sock, limit=REQUEST_LIMIT)

    async def stop(self) -> None:
        """Stop answering and remove the socket, unless another daemon's has taken its place."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._inode == _inode(self._path):
            self._path.unlink(missing_ok=True)
        await self._clients.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                line = await reader.readuntil()
            answer = await self._answer(line)
        except asyncio.LimitOverrunError:
            answer = {"error": f"a request has at most {REQUEST_LIMIT} bytes"}
        except (OSError, asyncio.IncompleteReadError):  # gone, or too slow: nobody to answer
            return
        # With no room to buffer, drained means that the kernel has it all, and abort() loses nothing
        writer.transport.set_write_buffer_limits(high=0)
        try:
            if not writer.is_closing():
                pieces, _ = await in_slices(json_pieces(answer))
                writer.write("".join(pieces).encode() + b"\n")
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    await writer.drain()
        except OSError:
            log.debug("the client left before it had its answer")

    async def _answer(self, line: bytes) -> object:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(name := request.pop("command", None), str):
            return {"error": "a request is one line of JSON with a command in it"}
        if name not in self._commands:
            return {"error": f"no command {name!r} in this daemon, only {', '.join(sorted(self._commands))}"}
        try:
            return await self._commands[name](request)
        except LbproxyError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("command %s failed", name)
            return {"error": f"command {name} failed, the daemon's log says why"}


def _bind(path: Path) -> socket.socket:
    """Return a socket bound to `path`, which nobody but the owner could open at any moment."""
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ControlError(f"control {path}: a socket's path has at most {PATH_LIMIT} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _make_directory(path.parent)
        _remove_stale(path)
        # Linux gives the new file the mode of the socket's own inode, so there is no moment before a chmod
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(os.fspath(path))
    except ControlError as error:
        sock.close()
        raise ControlError(f"control {path}: {error}") from None
    except OSError as error:
        sock.close()
        raise ControlError(f"control {path}: {_why(error)}") from None
    return sock


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise ControlError(f"the directory {directory.parent} does not exist") from None


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed daemon left behind; refuse if it is not that."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError("exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(os.fspath(path))
    if result in (0, errno.EAGAIN):  # EAGAIN: somebody listens who has many callers
        raise ControlError("another lbproxy is running there")
    if result != errno.ECONNREFUSED:
        raise OSError(result, os.strerror(result))
    path.unlink(missing_ok=True)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _why(error: OSError) -> str:
    return error.strerror or str(error)
