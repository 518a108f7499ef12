"""Several workers in the unit as shipped, under a real systemd: handed over from any number to any other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.process.test_service import MIXED, assert_all_intact, kept, port_of
from tests.support.box import Service
from tests.support.daemon import one_proxy
from tests.support.streams_checked import Numbered
from tests.support.wait import until

pytestmark = pytest.mark.timeout(120)

STEADY = {"steady": 20, "half_client": 3, "half_server": 3}


@pytest.fixture(name="streams")
def running_streams() -> Any:
    """Run a server for streams."""
    with Numbered() as running:
        yield running


def of(streams: Numbered, workers: int) -> dict[str, Any]:
    """Return the configuration with so many workers."""
    return {**one_proxy([streams.address]), "workers": workers}


def carriers(service: Service) -> list[int]:
    """Return the processes that carry connections, as numbered inside."""
    status = service.status()
    return [worker["pid"] for worker in status["workers"]] or [status["pid"]]


@pytest.mark.parametrize("how", ["restart", "upgrade"])
def test_from_any_number_of_workers_to_any_other_nothing_is_cut(streams: Numbered, how: str) -> None:
    """What one process has left several go on with, and the other way round; no new connection is refused."""
    with Service(config := of(streams, 1)) as service:
        port = port_of(service)
        streams.open(port, **MIXED)
        streams.visit(port, per_second=50)
        for workers in (2, 4, 1, 3):
            service.rewrite({**config, "workers": workers})
            service.systemctl("restart") if how == "restart" else service.lbproxy("upgrade")
            until(lambda workers=workers: len(carriers(service)) == workers, "all of them serve")
            streams.progress()
        kept(service, streams)
        service.systemctl("restart")
        streams.progress()
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        assert_all_intact(streams.finish(), sum(MIXED.values()))
        assert service.show("NRestarts") == "0"


def test_a_crash_of_all_is_a_crash_of_one(streams: Numbered) -> None:
    """With the supervisor the workers end, and the next ones, more or fewer, go on with what they had kept."""
    with Service(config := of(streams, 2)) as service:
        port = port_of(service)
        streams.open(port, **STEADY)
        for workers in (4, 1, 2):
            kept(service, streams)
            before = carriers(service)
            service.rewrite({**config, "workers": workers})
            service.kill("KILL")
            until(lambda workers=workers: len(carriers(service)) == workers, "all of them serve")
            assert not set(before) & set(carriers(service))
            streams.progress()
        alive = streams.alive()
        report = streams.finish()
        assert report.wrong == []
        assert alive >= sum(STEADY.values()) - 2  # each may have been met with bytes in its hands


@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_the_death_of_a_worker_after_any_change_of_hands_is_like_any_other(streams: Numbered, how: str) -> None:
    """Its connections were another process's before; they go on with the next one, and then over a restart."""
    with Service(config := of(streams, 1)) as service:
        port = port_of(service)
        streams.open(port, **STEADY)
        service.rewrite({**config, "workers": 2})
        service.lbproxy("upgrade")
        kept(service, streams)
        struck = carriers(service)[0]
        service.run("kill", f"-{how}", str(struck))
        until(lambda: struck not in carriers(service) and len(carriers(service)) == 2, "it is replaced", 20)
        streams.progress()
        service.rewrite(config)
        service.systemctl("restart")
        streams.progress()
        alive = streams.alive()
        report = streams.finish()
        assert report.wrong == []
        assert alive >= sum(STEADY.values()) - 1


def test_a_failed_upgrade_of_workers_changes_nothing(streams: Numbered) -> None:
    """The workers stand still for it and go on; a broken file is refused before that."""
    with Service(config := of(streams, 2)) as service:
        streams.open(port_of(service), **MIXED)
        before = carriers(service)
        service.rewrite({**config, "workers": "many"})
        done = service.lbproxy("upgrade", check=False)
        assert (done.returncode, "workers" in done.stderr + service.log()) == (1, True)
        streams.progress()
        assert carriers(service) == before
        assert_all_intact(streams.finish(), sum(MIXED.values()))
