"""System calls fail while bytes move, by strace: every nth call of a kind, several kinds at once.

What must hold, whichever they are: the daemon goes on; no byte is wrong; no connection is stuck; a connection ends only
where the row says that it may, and with a reset; and once it is over nothing is left of it, and all is as before.

What the kernel never answers is not in the table: EAGAIN of a socket that is ready (an edge would be lost), an errno of
epoll_wait but EINTR, and whatever has libuv give up (it aborts when its eventfd cannot be read, hence no threads here).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.support.daemon import Daemon, one_proxy
from tests.support.strace import Faults
from tests.support.streams_checked import Numbered
from tests.support.wait import until

STREAMS = {"steady": 3, "fast": 3, "bulk": 2, "slow": 1, "half_client": 1, "half_server": 1}
ENOUGH = 12
"""Faults that a row waits for."""


CHECKED = {"health": {"type": "tcp", "interval": "200ms"}}


class Row(NamedTuple):
    """Calls that fail, as strace writes it, whether connections may end by that, and whether servers are blamed."""

    faults: tuple[str, ...]
    cuts: bool = False
    blames: bool = False
    checks: bool = True
    """Whether servers are checked, through libuv, which aborts when its own epoll_ctl fails."""
    leaks: bool = False
    """Whether the fault itself leaves a descriptor open: strace leaves a call out, and a close is never refused."""


def every(errno: str, when: str, *calls: str) -> tuple[str, ...]:
    """Have each of `calls` fail with `errno`."""
    return tuple(f"{call}:error={errno}:when={when}" for call in calls)


TABLE = {
    "a signal interrupts": Row(every("EINTR", "3+5", "read", "readv", "write", "splice", "accept4", "connect")),
    "clients have gone": Row(every("ECONNABORTED", "2+2", "accept4")),
    "no descriptor": Row(every("EMFILE", "2+3", "accept4", "socket", "pipe2")),
    "no descriptor in the system": Row(every("ENFILE", "2+3", "accept4", "socket")),
    "no memory for another": Row((*every("ENOMEM", "2+4", "accept4", "connect"), *every("ENOBUFS", "2+4", "socket"))),
    "it is not allowed": Row((*every("EPERM", "2+3", "accept4", "fcntl"), *every("ENOSYS", "9+9", "splice"))),
    "no local port": Row(every("EADDRNOTAVAIL", "2+3", "connect")),
    "no place in the epoll set": Row(every("ENOSPC", "4+5", "epoll_ctl"), cuts=True, checks=False),
    "no memory for options": Row(every("ENOMEM", "3+4", "setsockopt", "getsockopt", "shutdown"), cuts=True),
    "no memory to read": Row(every("ENOMEM", "20+40", "read", "readv"), cuts=True),
    "no memory to write": Row(every("ENOBUFS", "20+30", "write", "splice"), cuts=True),
    "all fails": Row(every("EIO", "20+50", "read", "readv", "write", "splice"), cuts=True, blames=True),
    "a close is told to have failed": Row(every("EIO", "2+3", "close"), leaks=True),
    "all takes its time": Row(
        tuple(f"{call}:delay_enter=5ms:when=3+7" for call in ("read", "readv", "write", "splice", "accept4", "close"))
    ),
}


@pytest.fixture
def streams() -> Iterator[Numbered]:
    """Run a server for streams."""
    with Numbered() as running:
        yield running


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TABLE)
def test_a_fault_costs_what_it_must_and_no_more(streams: Numbered, name: str) -> None:
    """Nothing hangs, nothing is wrong, nothing is left; where it can go on it does."""
    row = TABLE[name]
    with Daemon({"watch": False, **one_proxy([streams.address], **(CHECKED if row.checks else {}))}) as daemon:
        before = daemon.sockets()
        streams.open(daemon.port, **STREAMS)
        with Faults([daemon.pid], row.faults) as faults:
            streams.visit(daemon.port, per_second=40)
            until(lambda: sum(faults.each().values()) >= ENOUGH, "enough has failed", 20)
            visits = replace(streams.stop_visits())
        streams.progress()
        report = streams.finish()
        assert report.wrong == []
        assert [cut for cut in report.cut if "open" in cut] == []
        if not row.cuts:
            assert (report.cut, visits.cut, visits.refused) == ([], 0, 0)
        assert row.blames or "is down" not in daemon.log
        lost = sum(faults.counts.values()) if row.leaks else 0
        streams.visit(daemon.port, per_second=100)
        until(lambda: streams.visits.done > visits.done, "clients are served again")
        assert streams.stop_visits().cut == visits.cut
        if not row.leaks:  # what the proxy could not close is open for its peer too
            streams.forget()
        until(lambda: not daemon.conns(), "no connection is left")
        until(lambda: daemon.sockets() <= before + lost, "all is given back")
