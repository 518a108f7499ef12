"""The system calls in C under the sanitizers: they are silent, and of a fault they would not be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.sanitized import Changes, build, run

TRIED = (
    "tests/unit/net",
    "tests/unit/relay",
    "tests/live/test_relay.py::test_a_client_that_half_closes_gets_its_whole_answer",
)
"""Tests that call them, in every way that the data plane does, and a daemon that lives on them."""
NOT_TRIED = "not plain and not tell_errors and not turn_it_waits"
"""The other form; and two that see how much the kernel takes at once, which is another where copies are slow."""
CHANGES: Changes = {
    "address.c": ('char text[sizeof "255.255.255.255"]', 'char text[sizeof "1.1.1.1"]'),
    "socket.c": ("    type->tp_free(self);\n", "    type->tp_free(self);\n    close(self->fd);\n"),
    "epoll.c": ("control(self, EPOLL_CTL_DEL, fd, 0)", "control(self, EPOLL_CTL_DEL, fd + INT_MAX, 0)"),
}
"""Three faults, each of which ends the process."""
CALLS = """\
import socket
from lbproxy.net import _syscalls
listener = socket.create_server(("127.0.0.1", 0))
near = _syscalls.connect(2, listener.getsockname())
"""
FAULTS = {
    "stack-buffer-overflow": "_syscalls.accept(listener, listener.fileno())",
    "heap-use-after-free": "del near",
    "signed integer overflow": "_syscalls.epoll().unregister(near.fileno())",
}
"""What a sanitizer calls each, and the call that has it."""


@pytest.mark.timeout(300)
def test_what_tries_the_calls_in_c_finds_no_wrong_step(tmp_path: Path) -> None:
    """A byte too far would be a crash, or another client's byte, on some node and some day."""
    target = build(tmp_path / "built")
    loaded = run(target, sys.executable, "-c", "from lbproxy.net import _syscalls; print(_syscalls.__file__)")
    assert loaded[1].startswith(str(target)), loaded
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NOT_TRIED, *TRIED)
    status, said, told = run(target, sys.executable, *tests)
    assert not told
    assert "runtime error:" not in said
    assert status == 0, said


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build them with all faults."""
    return build(tmp_path_factory.mktemp("faulty") / "built", CHANGES)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_step_would_be_seen(faulty: Path, fault: str) -> None:
    """Else the silence of the other test would say nothing."""
    status, said, told = run(faulty, sys.executable, "-c", CALLS + FAULTS[fault])
    assert status == 99, said
    assert fault in told + said
