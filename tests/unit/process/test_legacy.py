"""What is left to the next process besides connections."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbproxy.handover.inherit import Inherited, from_fds
from lbproxy.process import log as logs
from lbproxy.process.legacy import Legacy
from lbproxy.process.systemd import Notifier


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Notifier, socket.socket]]:
    """Make what speaks to a systemd that stores descriptors, and that one's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "FDSTORE": "9"})
        yield notifier, systemd
        notifier.close()
        logs.leave_events()


def test_the_file_of_events_is_stored_once_and_goes_from_process_to_process(
    store: tuple[Notifier, socket.socket],
) -> None:
    """The store would hold one more after each start, and only the first would have been written to."""
    notifier, systemd = store
    logs.setup(logs.Log())
    first = Legacy(notifier, Inherited())
    first.go_on()
    logging.getLogger("lbproxy.test").warning("was told to the first")
    message, fds, _, _ = socket.recv_fds(systemd, 1000, 10)
    assert message == b"FDSTORE=1\nFDNAME=events\nFDPOLL=0"
    second = Legacy(notifier, from_fds({"events": fds}))
    second.go_on()
    assert b"was told to the first" in os.pread(second.events, 300_000, 0)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)
    for legacy in (first, second):
        os.close(legacy.events)


def test_where_nobody_keeps_anything_there_is_nothing_to_leave() -> None:
    """No descriptor is taken for it."""
    legacy = Legacy(Notifier({}), Inherited())
    legacy.go_on()
    legacy.configuration(b"proxies: {}")
    assert legacy.events == -1
