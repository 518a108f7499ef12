"""One server: what it is called, what is counted, and what its state reads like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.health import Rules
from lbproxy.balance.histogram import CONNECT, FIRST_BYTE, LIFE, Seconds
from lbproxy.balance.server import Lease, Server
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.model import Address, ServerConfig

ADDRESS = Address("10.4.6.11", 6443)


def server_of(down: bool = False, name: str = "") -> Server:
    """Return a server with an endpoint."""
    server = Server(ServerConfig(address=ADDRESS, name=name, down=down), Rules(), 3.0)
    server.endpoint = (2, ("10.4.6.11", 6443))
    return server


def test_its_name_defaults_to_its_address() -> None:
    """And name and address together are what it is known by across a reload."""
    assert (server_of().name, server_of(name="m1").name) == ("10.4.6.11:6443", "m1")
    assert server_of(name="m1").key == ("m1", "10.4.6.11:6443")


def test_a_fresh_server_is_up() -> None:
    """A proxy that has just started must not refuse on what it does not know."""
    server = server_of()
    assert server.state()[0] == "up"
    assert server.usable()


@pytest.mark.parametrize("word", [state for state in State if state not in (State.DISABLED, State.UNCHECKED)])
def test_its_state_is_that_of_its_health(word: State) -> None:
    """With the reason of the check that brought it about, and since when."""
    server = server_of()
    for now in (5.0, 6.0):
        server.health.observe(CheckResult(word, "because", "x"), now)
    state, reason, since = server.state()
    assert (state, reason) == (word, "because")
    assert since == (3.0 if word is State.UP else 6.0)
    assert server.usable() == (word is State.UP)


def test_what_the_operator_and_the_file_say_comes_before_health() -> None:
    """Disabled in the file beats drained by hand, and that beats what is known of it."""
    server = server_of()
    server.health.observe(TrafficResult("refused"), 5.0)
    server.manual = True
    server.drained_at = 9.0
    assert server.state()[0::2] == ("draining", 9.0)
    assert "operator" in server.state()[1]
    assert not server.usable()
    assert server_of(down=True).state()[0] == "disabled"
    assert not server_of(down=True).usable()


def test_a_name_that_does_not_resolve_is_down() -> None:
    """It is no failed start and no reason of its own kind."""
    server = server_of()
    server.endpoint = None
    assert server.state()[:2] == ("down", "its name does not resolve")
    assert not server.usable()


@given(st.lists(st.integers(0, 3), max_size=20))
def test_however_often_leases_are_released_the_count_is_that_of_the_held(releases: list[int]) -> None:
    """It never goes below zero."""
    server = server_of()
    leases = [Lease(server) for _ in releases]
    assert server.connections == len(leases)
    for lease, times in zip(leases, releases, strict=True):
        for _ in range(times):
            lease.release()
    assert server.connections == releases.count(0)


@given(st.sampled_from([CONNECT, FIRST_BYTE, LIFE]), st.lists(st.floats(0.0, 100.0)))
def test_durations_fall_into_the_bucket_that_holds_them(bounds: tuple[float, ...], durations: list[float]) -> None:
    """Each into exactly one, with the sum kept."""
    seconds = Seconds(bounds)
    for duration in durations:
        seconds.add(duration)
    view = seconds.view()
    assert sum(view.counts) == len(durations)
    assert view.total_seconds == pytest.approx(sum(durations))
    for at, bound in enumerate(bounds):
        assert sum(view.counts[: at + 1]) == sum(duration <= bound for duration in durations)
