"""The asking end of the control socket. It waits in plain system calls: a command must start fast, without asyncio."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

from lbproxy.errors import ControlError, NoDaemonError
from lbproxy.status.onlookers import also

TIMEOUT = 30.0
"""Seconds to wait for the daemon; a reload may have to wait for another one."""


def call(path: str, command: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """Send `command` with `arguments` to the daemon on control socket `path` and return its answer.

    Raises ControlError with the daemon's words if it refuses, or if it cannot be asked; NoDaemonError if none is there.
    """
    try:
        answer = _exchange(path, json.dumps({"command": command, **arguments}).encode() + b"\n")
    except TimeoutError:
        raise ControlError(f"{path}: the daemon has not answered within {TIMEOUT:g} s") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemonError(f"{path}: no daemon is running there") from None
    except PermissionError:
        raise ControlError(
            f"{path}: permission denied: only the user that the daemon runs as, and root, may ask it{also(path)}"
        ) from None
    except ConnectionError:
        answer = b""  # what had come by then is not an answer
    except OSError as error:
        raise NoDaemonError(f"{path}: {error.strerror or error}") from None
    return understood(answer, path)


def understood(answer: bytes, path: str) -> dict[str, object]:
    """Return what the daemon on control socket `path` has answered. Raises as `call` does."""
    try:
        result = json.loads(answer)
    except (ValueError, RecursionError):
        raise NoDaemonError(f"{path}: the daemon went away without an answer") from None
    if not isinstance(result, dict):
        raise NoDaemonError(f"{path}: what answers there is no daemon")
    if "error" in result:
        raise ControlError(str(result["error"]))
    return result


def _exchange(path: str, request: bytes) -> bytes:
    """Return all that comes back."""
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(path)
        sock.sendall(request)
        while chunk := sock.recv(65536):
            answer += chunk
    return bytes(answer)
