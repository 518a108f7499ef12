"""The epoll set: who is told what, in which order, and what a bug in one of them costs the others."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Callable
from time import monotonic

import pytest

from lbproxy.net.poller import IN, Handler, Poller
from lbproxy.net.timers import NEVER, Timer
from tests.unit.relay.hand import Bench, take

pytestmark = pytest.mark.plain


class Probe(Handler):
    """Something in the set that does what the test says, and writes down what it was called for."""

    def __init__(self, poller: Poller, act: Callable[[Probe], None] = lambda _: None) -> None:
        super().__init__()
        self.poller = poller
        self.act = act
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.act(self)

    def ready(self, fd: int, events: int) -> None:
        """Called with events."""
        self._called("ready")

    def resume(self) -> None:
        """Called for another turn."""
        self._called("resume")

    def due(self, now: float) -> float:
        """Called at its time."""
        self._called("due")
        return NEVER

    def crashed(self) -> None:
        """Called when a bug was met."""
        self.calls.append("crashed")


def raises(_: Probe) -> None:
    """Be a bug."""
    raise RuntimeError("a bug")


def watch(bench: Bench, probe: Probe) -> tuple[socket.socket, socket.socket]:
    """Put a socket into the set for `probe`; returns its far end and itself."""
    far, near = bench.pair()
    near.setblocking(False)
    bench.poller.add(near.fileno(), probe)
    bench.loop.settle()
    probe.calls.clear()
    return far, near


def test_an_edge_is_told_once(bench: Bench) -> None:
    """Who does not read is not told again of the same bytes, but of the next ones."""
    probe = Probe(bench.poller)
    far, _ = watch(bench, probe)
    far.send(b"x")
    bench.loop.settle()
    assert probe.calls == ["ready"]
    far.send(b"y")
    bench.loop.settle()
    assert probe.calls == ["ready", "ready"]


def test_a_reassigned_descriptor_has_a_new_handler(bench: Bench) -> None:
    """The descriptor stays registered."""
    first, second = Probe(bench.poller), Probe(bench.poller)
    far, near = watch(bench, first)
    bench.poller.reassign(near.fileno(), second)
    far.send(b"x")
    bench.loop.settle()
    assert (first.calls, second.calls) == ([], ["ready"])


def test_what_was_removed_stays_open_and_is_not_told_of(bench: Bench) -> None:
    """As a listener is while it pauses; it can be added again."""
    probe = Probe(bench.poller)
    far, near = watch(bench, probe)
    bench.poller.remove(near.fileno())
    far.send(b"x")
    bench.loop.settle()
    assert probe.calls == []
    bench.poller.add(near.fileno(), probe, IN)
    bench.loop.step()
    assert probe.calls == ["ready"]
    bench.poller.remove(near.fileno())
    assert take(near) == b"x"


def test_a_closing_socket_is_closed_after_the_batch(bench: Bench) -> None:
    """Its number cannot be taken by a new socket while events of the old one may still be in the batch."""
    made: list[int] = []
    fars: list[socket.socket] = []

    def close_both(probe: Probe) -> None:
        for near in nears:
            probe.poller.close_later(near.fileno(), near)
            assert near.fileno() >= 0
        made.append(bench.keep(socket.socket()).fileno())

    probes = [Probe(bench.poller, close_both), Probe(bench.poller, close_both)]
    nears: list[socket.socket] = []
    for probe in probes:
        far, near = bench.pair()
        fars.append(far)
        nears.append(near)
        bench.poller.add(near.fileno(), probe)
    old = [near.fileno() for near in nears]
    bench.loop.step()
    assert sorted(len(probe.calls) for probe in probes) == [0, 1]
    assert made[0] not in old
    assert [near.fileno() for near in nears] == [-1, -1]
    assert bench.keep(socket.socket()).fileno() in old


def test_a_socket_that_is_closing_between_batches_is_closed_at_once(bench: Bench) -> None:
    """Nothing else may be told of it then."""
    _, near = watch(bench, Probe(bench.poller))
    bench.poller.close_later(near.fileno(), near)
    assert near.fileno() == -1


def test_who_defers_is_resumed_after_everybody_else(bench: Bench) -> None:
    """One bulk stream cannot starve the small ones."""
    order: list[str] = []

    def greedy(probe: Probe) -> None:
        order.append("greedy")
        if len(probe.calls) < 4:
            probe.poller.defer(probe)

    queue = Probe(bench.poller, greedy)
    modest = [Probe(bench.poller, lambda _: order.append("modest")) for _ in range(5)]
    fars = [watch(bench, probe)[0] for probe in (queue, *modest)]
    order.clear()
    queue.calls.clear()
    for far in fars:
        far.send(b"x")
    bench.loop.settle()
    assert queue.calls == ["ready", "resume", "resume", "resume"]
    assert order[:6].count("modest") == 5
    assert bench.loop.soon == []


def test_to_defer_from_outside_a_batch_wakes_the_loop(bench: Bench) -> None:
    """Nothing in the set need have happened for it."""
    probe = Probe(bench.poller)
    bench.poller.defer(probe)
    bench.loop.settle()
    assert probe.calls == ["resume"]


@pytest.mark.parametrize("call", ["ready", "resume", "due"])
def test_a_handler_that_raises_is_told_and_harms_nobody_else(
    bench: Bench, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """The bug is logged with its traceback, its owner closes, and everybody else goes on."""
    bad, good = Probe(bench.poller, raises), Probe(bench.poller)
    (bad_far, bad_near), (good_far, good_near) = bench.pair(), bench.pair()
    bench.poller.add(good_near.fileno(), good)
    bench.loop.settle()
    if call == "ready":
        bench.poller.add(bad_near.fileno(), bad)
    elif call == "resume":
        bench.poller.defer(bad)
    else:
        bench.poller.at(bad, monotonic())
    bench.loop.until(lambda: bad.calls)
    good.calls.clear()
    good_far.send(b"x")
    bench.loop.settle()
    assert bad.calls[:2] == [call, "crashed"]
    assert good.calls == ["ready"]
    assert caplog.records
    assert all(record.exc_info for record in caplog.records)
    bad_far.close()


def test_times_come_in_order_and_what_due_returns_is_the_next_one(bench: Bench) -> None:
    """A timer that was dropped does not come; NEVER ends it."""
    order: list[str] = []

    class Named(Probe):
        """A probe with a name and a number of times to come back."""

        def __init__(self, name: str, times: int) -> None:
            super().__init__(bench.poller)
            self.name = name
            self.times = times

        def due(self, now: float) -> float:
            """Come back soon, some times."""
            assert now >= self.when
            order.append(self.name)
            self.times -= 1
            self.when = now + 0.01
            return self.when if self.times else NEVER

        when = 0.0

    late, early, gone = Named("late", 1), Named("early", 2), Named("gone", 1)
    now = monotonic()
    for probe, after in ((late, 0.2), (gone, 0.1), (early, 0.01)):
        probe.when = now + after
        bench.poller.at(probe, probe.when)
    bench.poller.timers.drop(gone)
    bench.loop.until(lambda: len(order) == 3)
    bench.loop.settle()
    assert order == ["early", "early", "late"]
    assert [timer for timer in bench.loop.timers if not timer.cancelled] == []


def test_a_timer_that_raises_comes_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """It stands for something that must be done some day: connections to be taken off a server, rebalancing."""
    calls: list[float] = []

    class Faulty(Timer):
        """Raises the first time."""

        def due(self, now: float) -> float:
            """Come."""
            calls.append(now)
            if len(calls) == 1:
                raise RuntimeError("a bug")
            return NEVER

    bench.poller.at(Faulty(), monotonic())
    bench.loop.until(lambda: len(calls) == 2)
    assert calls[1] >= calls[0] + 1
    assert [record.getMessage() for record in caplog.records] == ["a timer met a bug, and is called again in 1 s"]


def test_after_a_stall_what_has_happened_is_told_before_what_is_overdue(bench: Bench) -> None:
    """A machine that stood still for a second must not take every answer that came meanwhile for a timeout."""
    probe = Probe(bench.poller)
    far, _ = watch(bench, probe)
    bench.poller.at(probe, monotonic())
    far.send(b"an answer")
    (timer,) = bench.loop.timers
    bench.loop.timers.clear()
    timer.callback()
    assert probe.calls[:1] == ["ready"]


def test_after_a_stall_what_was_on_its_way_has_a_moment_before_it_is_overdue(bench: Bench) -> None:
    """A server must not be blamed for the time in which this process stood still; once is enough."""
    probe = Probe(bench.poller)
    bench.poller.at(probe, monotonic() - 1)
    for expected in ([], ["due"]):
        (timer,) = bench.loop.timers
        bench.loop.timers.clear()
        timer.callback()
        assert probe.calls == expected
    bench.poller.at(probe, monotonic() - 0.1)
    (timer,) = bench.loop.timers
    bench.loop.timers.clear()
    timer.callback()
    assert probe.calls == ["due", "due"]


def test_a_great_descriptor_number_finds_its_place(bench: Bench) -> None:
    """The table grows with the descriptors."""
    probe = Probe(bench.poller)
    far, near = bench.pair()
    great = socket.socket(fileno=fcntl.fcntl(near.fileno(), fcntl.F_DUPFD_CLOEXEC, 3000))
    bench.keep(great)
    bench.poller.add(great.fileno(), probe)
    far.send(b"x")
    bench.loop.settle()
    assert "ready" in probe.calls


def test_close_leaves_nothing_with_the_loop(bench: Bench) -> None:
    """No reader and no timer, and what waited to be closed is."""
    poller = bench.poller
    poller.at(Probe(poller), monotonic() + 100)
    poller.close()
    assert bench.loop.readers == {}
    assert all(timer.cancelled for timer in bench.loop.timers)
    bench.poller = Poller(bench.loop)


def test_what_could_not_be_put_in_can_be_taken_out(bench: Bench) -> None:
    """Whoever lets go of everything need not know how far it has come."""
    _, near = bench.pair()
    probe = Probe(bench.poller)
    bench.poller.reassign(near.fileno(), probe)
    bench.poller.remove(near.fileno())
    bench.poller.add(near.fileno(), probe)
    bench.loop.settle()
    assert probe.calls == ["ready"]
