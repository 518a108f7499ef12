"""Rules of the asking end of the control socket; test_control has those of an exchange that comes off."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from lbproxy.errors import ControlError, NoDaemonError
from lbproxy.status import client
from lbproxy.status.client import call, understood


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the socket is to be."""
    return tmp_path / "control.sock"


def test_no_daemon_is_said_so(path: Path) -> None:
    """No socket, a dead socket, a path too long and a file all mean that nobody answers, and are named."""
    with pytest.raises(NoDaemonError, match=f"{path}: no daemon"):
        call(str(path), "status", {})
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    with pytest.raises(NoDaemonError, match=f"{path}: no daemon"):
        call(str(path), "status", {})
    with pytest.raises(NoDaemonError, match="too long"):
        call("/" + "x" * 200, "status", {})
    path.unlink()
    path.write_text("")
    with pytest.raises(NoDaemonError, match=str(path)):
        call(str(path), "status", {})


def test_a_daemon_that_hangs_or_dies_is_no_daemon(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who accepts and does not answer, or closes without an answer, is not waited for."""
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        with pytest.raises(ControlError, match=r"has not answered within 0\.1 s"):
            call(str(path), "status", {})
        monkeypatch.setattr(client, "TIMEOUT", 10)
        listener.accept()[0].close()
        closer = threading.Thread(target=lambda: listener.accept()[0].close())
        closer.start()
        with pytest.raises(NoDaemonError, match="went away without an answer"):
            call(str(path), "status", {})
        closer.join()


@pytest.mark.parametrize("answer", [b"[1]", b'"error"', b"5", b"null", b"[" * 100_000, b"", b"\xff"], ids=range(7))
def test_what_is_no_answer_of_a_daemons_says_that_none_is_there(answer: bytes) -> None:
    """Another program may listen at that path."""
    with pytest.raises(NoDaemonError, match=r"^/x: "):
        understood(answer, "/x")


def test_a_refusal_is_shown_whatever_it_is() -> None:
    """A daemon of another version might say more than a text."""
    with pytest.raises(ControlError, match=r"^\['a', 'b'\]$"):
        understood(b'{"error": ["a", "b"]}', "/x")
