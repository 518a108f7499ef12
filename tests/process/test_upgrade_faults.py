"""System calls fail while one process hands over to another: it comes off, or the old one serves on undisturbed."""

from __future__ import annotations

import contextlib

import pytest

from lbproxy.errors import LbproxyError
from tests.live.test_faults import every
from tests.process.test_upgrade import Upgradable
from tests.support.daemon import one_proxy
from tests.support.strace import Faults
from tests.support.streams_checked import Numbered

STREAMS = {"steady": 3, "fast": 3, "bulk": 2, "slow": 1, "half_client": 1, "half_server": 1}
TABLE = {
    "nothing can be sent": every("ENOBUFS", "1+1", "sendmsg"),
    "nothing can be received": every("ENOMEM", "2+2", "recvmsg"),
    "nothing can be said": every("ENOBUFS", "1", "sendto"),
    "no process": every("EAGAIN", "1+1", "vfork", "fork", "clone", "clone3"),
    "no program": every("ENOMEM", "1", "execve"),
    "no descriptor": every("EMFILE", "2+1", "socketpair"),
    "nobody can be ended": every("EPERM", "1+1", "kill"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TABLE)
def test_a_fault_in_an_upgrade_costs_no_connection(name: str) -> None:
    """Whatever fails before the word to go is undone, and the next upgrade comes off."""
    with Numbered() as streams, Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, **STREAMS)
        streams.visit(daemon.port, per_second=20)
        with Faults([daemon.pid], TABLE[name]) as faults, contextlib.suppress(LbproxyError):
            daemon.upgrade()
        assert faults.counts
        streams.progress()
        if daemon.serving() == daemon.process.pid:
            daemon.upgrade()
        streams.progress()
        visits = streams.stop_visits()
        report = streams.finish()
        assert (report.wrong, report.cut, visits.cut, visits.refused) == ([], [], 0, 0)
        daemon.assert_clean_log()


@pytest.mark.timeout(60)
def test_what_finds_no_place_in_the_epoll_set_is_reset_and_not_left_standing() -> None:
    """In the new process, or in the old one when it goes on; the others do not notice."""
    with Numbered() as streams, Upgradable(one_proxy([streams.address])) as daemon:
        streams.open(daemon.port, **STREAMS)
        with Faults([daemon.pid], every("ENOSPC", "20+7", "epoll_ctl")), contextlib.suppress(LbproxyError):
            daemon.upgrade()
        streams.progress()
        report = streams.finish()
        assert report.wrong == []
        assert [cut for cut in report.cut if "open" in cut] == []
