"""What several workers show, as one."""

from __future__ import annotations

from dataclasses import fields, replace

from lbproxy.balance.histogram import Histogram
from lbproxy.balance.state import State
from lbproxy.process.sums import NO_FIGURES, add_proxies
from lbproxy.status.snapshot import ProxyView, ServerView
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
    both = add_proxies(one, one)
    assert_doubled(one, both)
    assert_doubled(one.servers[0], both.servers[0])


def test_of_states_the_worst_is_shown() -> None:
    """What one worker sees is wrong with a server is what one wants to be told."""
    up, down = (replace(server(), state=state, reason=str(state)) for state in (State.UP, State.DOWN))
    for first, second in ((up, down), (down, up)):
        (one,), (other,) = snapshot(first).proxies, snapshot(second).proxies
        (shown,) = add_proxies(one, other).servers
        assert (shown.state, shown.reason, shown.connections) == ("down", "down", 2 * up.connections)


def test_a_server_that_only_one_worker_has_is_shown() -> None:
    """One has gone over to a new configuration a moment before the other."""
    (one,), (other,) = snapshot(server("a")).proxies, snapshot(server("a"), server("b")).proxies
    for first, second in ((one, other), (other, one)):
        assert [each.name for each in add_proxies(first, second).servers] == ["a", "b"]
