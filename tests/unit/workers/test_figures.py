"""All that is shown of several workers: no counter ever falls."""

from __future__ import annotations

from dataclasses import replace

from lbproxy.handover.parcel import Parcel
from lbproxy.status.snapshot import Snapshot, Usage
from lbproxy.workers.figures import Figures
from tests.unit.status.test_metrics import server, snapshot

USAGE = Usage(cpu_seconds=2.0, virtual_bytes=10, resident_bytes=5, open_fds=3, max_fds=100, started=7.0)


def worker(pid: int, **figures: int) -> Snapshot:
    """Return what a worker shows, with these figures of its only server."""
    shown = replace(
        snapshot(replace(server(), **figures)),
        pid=pid, usage=USAGE, kept=4, task_failures={"check": 1}, log_lines_dropped=2,
    )  # fmt: skip
    (proxy,) = shown.proxies
    return replace(shown, proxies=(replace(proxy, connections=figures.get("connections", 0)),))


def leader() -> Snapshot:
    """Return what the leader shows: no traffic."""
    own = snapshot(server())
    (proxy,) = own.proxies
    (only,) = proxy.servers
    quiet = replace(only, connections=0, connections_total=0, bytes_in_total=0, bytes_out_total=0)
    return replace(own, proxies=(replace(proxy, connections=0, servers=(quiet,)),), usage=USAGE)


def test_what_all_have_counted_is_shown_as_one_process_with_the_split_beside_it() -> None:
    """The process id is the leader's; memory and CPU are those of all."""
    shown = Figures().shown(leader(), [(0, worker(11, connections=3)), (1, worker(12, connections=4))])
    assert (shown.pid, shown.proxies[0].servers[0].connections, shown.kept) == (leader().pid, 7, 8)
    assert [(each.number, each.pid, each.connections) for each in shown.workers] == [(1, 11, 3), (2, 12, 4)]
    assert shown.usage is not None
    assert (shown.usage.cpu_seconds, shown.usage.resident_bytes) == (6.0, 15)
    assert shown.task_failures["check"] == leader().task_failures.get("check", 0) + 2


def test_no_counter_falls_when_a_worker_dies_and_another_takes_its_connections() -> None:
    """The new one begins at nothing, but for the bytes of what it has taken over."""
    figures = Figures()
    both = [(0, worker(11, connections_total=10, bytes_in_total=100)), (1, worker(12, connections_total=5))]
    before = figures.shown(leader(), both).proxies[0].servers[0]
    (proxy,) = leader().proxies
    taken = Parcel(
        client_fd=-1,
        proxy=proxy.name,
        server=(proxy.servers[0].name, proxy.servers[0].address),
        peer=("::1", 1),
        born=0.0,
        moved=(30, 0),
    )
    figures.lost(0, [taken])
    for answers in ([], [both[1]]):  # while the new one has not said anything yet
        between = figures.shown(leader(), answers)
        assert between.proxies[0].servers[0] == replace(before, connections=between.proxies[0].servers[0].connections)
        assert [each.pid for each in between.workers] == [12]
    born = worker(13, connections_total=0, bytes_in_total=30)
    after = figures.shown(leader(), [(0, born), (1, worker(12, connections_total=5))])
    now = after.proxies[0].servers[0]
    assert (now.connections_total, now.bytes_in_total) == (before.connections_total, before.bytes_in_total)
    assert after.usage is not None
    assert after.usage.cpu_seconds == 8.0
    figures.lost(0, [])
    assert figures.shown(leader(), []).proxies[0].servers[0].connections_total == 10 + 5


def test_one_that_does_not_answer_counts_as_it_did_last() -> None:
    """It hangs, and has its connections still; it may go on, or die, and be lost then."""
    figures = Figures()
    one, other = worker(11, connections=3, connections_total=10), worker(12, connections=4, connections_total=5)
    before = figures.shown(leader(), [(0, one), (1, other)])
    hung = figures.shown(leader(), [(1, other)])
    assert (hung.proxies, hung.task_failures, hung.usage) == (before.proxies, before.task_failures, before.usage)
    assert [each.pid for each in hung.workers] == [11, 12]
    figures.lost(0, [])
    after = figures.shown(leader(), [(1, other)])
    assert [each.pid for each in after.workers] == [12]
    assert after.proxies[0].servers[0].connections_total == 15
    assert after.log_lines_dropped == before.log_lines_dropped


def test_a_worker_that_never_was_asked_leaves_nothing() -> None:
    """It died before anybody wanted to know."""
    figures = Figures()
    figures.lost(1, [])
    assert figures.shown(leader(), []).proxies[0].servers[0].connections_total == 0
