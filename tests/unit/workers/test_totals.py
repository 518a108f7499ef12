"""What several workers show, as one."""

from __future__ import annotations

from dataclasses import fields, replace

from lbproxy.balance.histogram import Histogram
from lbproxy.balance.state import State
from lbproxy.handover.parcel import Parcel
from lbproxy.status.snapshot import ProxyView, ServerView
from lbproxy.workers.totals import GAUGES, NO_FIGURES, add, departed, moved
from tests.unit.status.test_metrics import server, snapshot


def doubled(figure: object) -> object:
    """Return what a figure of two workers that show the same is together."""
    match figure:
        case Histogram(counts, seconds):
            return Histogram(tuple(2 * count for count in counts), 2 * seconds)
        case dict():
            return {reason: 2 * count for reason, count in figure.items()}
        case int():
            return 2 * figure
    raise TypeError(figure)


def assert_doubled(one: ProxyView | ServerView, both: ProxyView | ServerView) -> None:
    """Assert that every figure is that of two, and nothing else is."""
    for name in (field.name for field in fields(one)):
        value = getattr(one, name)
        if name != "servers":
            assert getattr(both, name) == (value if name in NO_FIGURES else doubled(value)), name


def test_every_figure_of_a_proxy_and_of_its_servers_is_added() -> None:
    """One that is forgotten would show what a single worker has counted, and no alarm would ever fit."""
    (one,) = snapshot(server()).proxies
    both = add(one, [one])
    assert_doubled(one, both)
    assert_doubled(one.servers[0], both.servers[0])


def test_how_a_server_is_the_leader_says() -> None:
    """A worker may not have heard yet; and a check is made once, by whoever leads."""
    (leads,) = snapshot(replace(server(), state=State.UP, reason="fine")).proxies
    (late,) = snapshot(replace(server(), state=State.DOWN, reason="refused")).proxies
    (shown,) = add(leads, [late]).servers
    assert (shown.state, shown.reason, shown.checks) == ("up", "fine", leads.servers[0].checks)


def test_servers_are_those_of_the_leader() -> None:
    """A worker goes over to a new configuration a moment later: its removed servers are not shown again."""
    (one,), (both,) = snapshot(server("a")).proxies, snapshot(server("a"), server("b")).proxies
    assert [each.name for each in add(one, [both]).servers] == ["a"]
    assert [each.name for each in add(both, [one]).servers] == ["a", "b"]


def test_of_a_process_that_is_no_more_counters_stay_and_gauges_go() -> None:
    """What its connections had moved is counted by the one that has taken them, and therefore not twice."""
    (view,) = snapshot(server()).proxies
    (shown,) = view.servers
    taken = Parcel(
        client_fd=-1, proxy=view.name, server=(shown.name, shown.address), peer=("::1", 1), born=0.0, moved=(3, 5)
    )
    strange = Parcel(client_fd=-1, proxy="other", server=(shown.name, shown.address), peer=("::1", 1), born=0.0)
    strange.moved = (1000, 1000)
    gone = departed(view, moved([taken, strange]))
    assert gone.servers[0].bytes_in_total == shown.bytes_in_total - 3
    assert gone.servers[0].bytes_out_total == shown.bytes_out_total - 5
    for before, after in ((view, gone), (shown, gone.servers[0])):
        for name in (field.name for field in fields(before)):
            if name in GAUGES:
                assert getattr(after, name) == 0
            elif name not in ("servers", "bytes_in_total", "bytes_out_total"):
                assert getattr(after, name) == getattr(before, name)
