"""The unix socket through which the CLI talks to the daemon.

One connection carries one command: a line of JSON, `{"command": "drain", "server": "m3"}`, is answered by a line of
JSON, `{"error": "..."}` if the command was refused. Which commands there are is in `commands`. Whoever may open the
socket (mode 0600: the daemon's own user, and root) may do everything; `onlookers` has the other one.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from lbproxy.errors import ControlError, LbproxyError, OccupiedError
from lbproxy.status.serving import Clients
from lbproxy.status.slices import in_slices, json_pieces
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.status.commands import Handler

PATH_LIMIT = 107
"""Bytes of a unix socket's path (unix(7): sun_path is 108 with the final NUL)."""
REQUEST_LIMIT = 16 * 1024
REQUEST_TIMEOUT = 5.0
"""Seconds in which a peer must have sent its request, and taken the answer."""
MAX_CONNECTIONS = 32
_OWNER: Final = 0o600
_LAST_ANSWERS = 1.0
"""Seconds in which commands under way are still answered at the end: `lbproxy upgrade` is one that brings it about."""

log = logging.getLogger(__name__)


class ControlServer:
    """Listens on `path` and answers with what `commands` returns, which is called when the first one asks."""

    def __init__(
        self, path: str, commands: Callable[[], Mapping[str, Handler]], tasks: Tasks, mode: int = _OWNER
    ) -> None:
        self._path = path
        self._mode = mode
        self._bound = self._path
        self._commands = cache(commands)
        self._clients = Clients(self._serve, tasks, "control command", MAX_CONNECTIONS)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None

    def bind(self, take_over: bool = False) -> None:
        """Listen, and let callers wait until `start`. Raises ControlError, which names the path.

        With `take_over` it listens beside another daemon's socket, whose place it takes in `start`.
        """
        if len(os.fsencode(self._path)) > PATH_LIMIT:
            raise ControlError(f"control {self._path}: a socket's path has at most {PATH_LIMIT} bytes")
        if take_over and _kind(self._path) not in (0, stat.S_IFSOCK):
            raise ControlError(f"control {self._path}: exists and is not a socket")
        self._bound = f"{self._path}.new" if take_over else self._path
        self._socket = _bind(self._bound, self._mode)
        self._inode = _inode(self._bound)

    async def start(self) -> None:
        """Begin to answer; `bind` comes first. Raises ControlError when the other daemon's place cannot be taken.

        There is no moment in which nobody listens.
        """
        try:
            if self._bound != self._path:
                os.replace(self._bound, self._path)
                self._bound = self._path
            self._server = await asyncio.start_unix_server(self._clients.accept, sock=self._socket, limit=REQUEST_LIMIT)
        except OSError as error:
            raise ControlError(f"control {self._path}: {_why(error)}") from None

    def lost(self) -> bool:
        """Whether its file has gone, or is another's: nobody finds it any more."""
        return self._server is not None and self._inode != _inode(self._bound)

    async def renew(self) -> None:
        """Listen anew, in the same place; commands under way go on. Raises ControlError."""
        server, self._server, self._socket = self._server, None, None
        if server is not None:
            server.close()
        self.bind()
        await self.start()

    async def stop(self) -> None:
        """Stop answering and remove the socket, unless another daemon's has taken its place."""
        sock, self._socket = self._socket, None
        server, self._server = self._server, None
        if sock is None:
            return
        if server is not None:
            server.close()  # and the socket with it
        else:
            sock.close()
        if self._inode == _inode(self._bound):
            _remove(self._bound)
        await self._clients.close(_LAST_ANSWERS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._clients.rest()
            async with asyncio.timeout(REQUEST_TIMEOUT):
                line = await reader.readuntil()
            self._clients.work()
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
        commands = self._commands()
        if name not in commands:
            return {"error": f"no command {name!r} in this daemon, only {', '.join(sorted(commands))}"}
        try:
            return await commands[name](request)
        except LbproxyError as error:
            return {"error": str(error)}
        except Exception:
            log.exception("command %s failed", name)
            return {"error": f"command {name} failed, the daemon's log says why"}


def _bind(path: str, mode: int) -> socket.socket:
    """Return a socket that listens on `path`, which nobody but the owner, or whom `mode` lets, could open ever."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _make_directory(_directory(path))
        with _addressable(path) as place:
            _remove_stale(place)
            # Linux gives the new file the mode of the socket's own inode, so there is no moment before a chmod
            os.fchmod(sock.fileno(), _OWNER)
            sock.bind(place)
            if mode != _OWNER:
                os.chmod(place, mode)
        sock.listen()
    except ControlError as error:
        sock.close()
        raise type(error)(f"control {path}: {error}") from None
    except OSError as error:
        sock.close()
        raise ControlError(f"control {path}: {_why(error)}") from None
    return sock


@contextmanager
def _addressable(path: str) -> Iterator[str]:
    """Yield a path to the same place that a socket's address has room for."""
    if len(os.fsencode(path)) <= PATH_LIMIT:
        yield path
        return
    directory = os.open(_directory(path), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def _directory(path: str) -> str:
    return os.path.dirname(path) or "."


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, mode=0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise ControlError(f"the directory {_directory(directory)} does not exist") from None


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed daemon left behind; refuse if it is not that."""
    kind = _kind(path)
    if not kind:
        return
    if kind != stat.S_IFSOCK:
        raise ControlError("exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN):  # EAGAIN: somebody listens who has many callers
        raise OccupiedError("another lbproxy is running there")
    if result != errno.ECONNREFUSED:
        raise OSError(result, os.strerror(result))
    _remove(path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _kind(path: str) -> int:
    """Return what is at `path` (stat.S_IFSOCK, ...), 0 for nothing; what cannot be seen is told by the bind."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return 0


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _why(error: OSError) -> str:
    return error.strerror or str(error)
