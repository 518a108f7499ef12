"""Evening out: what is surplus, what may be closed of it, and how fast."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.pool import Pool
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ProxyConfig, Rebalance, ServerConfig
from lbproxy.net.timers import NEVER
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.rebalance import HOME, LASTING, Load, Rebalancer, pace, sum_up, surplus
from lbproxy.proxy.sessions import REBALANCED

LOADS = st.lists(st.builds(Load, st.integers(0, 80), st.integers(1, 10), st.just(0)), min_size=2, max_size=5)


class Client:
    """A connection to a server; one that is cut comes back wherever the pool says."""

    def __init__(self, place: Place, busy: bool = False) -> None:
        self.place = place
        self.busy = busy
        self.reasons: list[str] = []
        self.arrive()

    def arrive(self) -> None:
        """Get a server."""
        lease = self.place.pool.pick(self.place.now)
        assert lease is not None
        self.lease = lease

    def cut(self, reason: str) -> None:
        """Be cut, and come back."""
        self.reasons.append(reason)
        self.lease.release()
        self.arrive()


class Place:
    """A pool, its clients and a rebalancer, with time turned by hand."""

    def __init__(self, *servers: ServerConfig, node: str = "node", **settings: object) -> None:
        plain = ProxyConfig(listen=(Address("127.0.0.1", 1),), servers=servers, slow_start=0.0)
        proxy = replace(plain, **settings)  # type: ignore[arg-type]
        self.now = 1000.0
        self.pool = Pool(proxy, node, 0.0)
        for server in self.pool.servers:
            server.endpoint = (2, ("127.0.0.1", 1))
        self.clients: list[Client] = []
        self.asked: list[float] = []
        self.wakes = 0.0
        self.serving = True
        backend = Backend("p", proxy, self.pool, lambda server, transition: None, lambda server: None)
        self.rebalancer = Rebalancer(backend, self._quiet, lambda: self.serving, Random(7))

    def _quiet(self, server: object, seconds: float) -> list[Client]:
        self.asked.append(seconds)
        return [each for each in self.clients if each.lease.server is server and not each.busy]

    def come(self, count: int, busy: bool = False) -> None:
        """Have so many clients connect."""
        self.clients += [Client(self, busy) for _ in range(count)]

    def check(self, name: str, state: State) -> None:
        """Have the checks say so until it counts; what is down loses its clients to the others."""
        server = next((each for each in self.pool.servers if each.name == name), None)
        assert server is not None
        for _ in range(3):
            server.health.observe(CheckResult(state, "told", "told"), self.now)
        if state is State.UP:
            server.recovered_at = self.now
        for client in self.clients:
            if client.lease.server is server and state is State.DOWN:
                client.lease.release()
                client.arrive()

    def blip(self, name: str) -> None:
        """Have a server go and come back."""
        self.check(name, State.DOWN)
        self.check(name, State.UP)

    def outage(self, name: str) -> None:
        """Have a server be gone for a while."""
        self.check(name, State.DOWN)
        self.turn(10)
        self.check(name, State.UP)
        self.turn(10)

    def leave(self, client: Client) -> None:
        """Have a client go for good."""
        client.lease.release()
        self.clients.remove(client)

    def counts(self) -> dict[str, int]:
        """Return how many connections each server has."""
        return {server.name: server.connections for server in self.pool.servers}

    def cut(self) -> int:
        """Return how many connections have been closed."""
        return sum(len(each.reasons) for each in self.clients)

    def turn(self, seconds: float) -> list[float]:
        """Let time pass as the wheel would; returns the times of the cuts."""
        end, cuts = self.now + seconds, []
        while self.wakes <= end:
            self.now = max(self.now, self.wakes)
            before = self.cut()
            self.wakes = self.rebalancer.due(self.now)
            cuts += [self.now] * (self.cut() - before)
        self.now = end
        return cuts


def three(node: str = "node", **settings: object) -> Place:
    """Return a place with three servers."""
    return Place(*(ServerConfig(address=Address(f"{name}.test", 1), name=name) for name in ("m1", "m2", "m3")),
                 node=node, **settings)  # fmt: skip


@given(LOADS, st.permutations(range(5)))
def test_no_more_than_the_surplus_goes_and_afterwards_nothing_is_surplus(loads: list[Load], order: list[int]) -> None:
    """What is closed comes back where least connections puts it, and then all is even: no second round is needed."""
    extra = surplus(loads)
    left = [load.connections - more for load, more in zip(loads, extra, strict=True)]
    assert all(0 <= more <= load.connections for more, load in zip(extra, loads, strict=True))
    for _ in range(sum(extra)):
        at = min(range(len(loads)), key=lambda n: (left[n] / loads[n].weight, order[n]))
        left[at] += 1
    after = [load._replace(connections=count) for load, count in zip(loads, left, strict=True)]
    assert surplus(after) == [0] * len(loads)
    share = sum(left) / sum(load.weight for load in loads)
    assert all(count < share * load.weight + len(loads) for count, load in zip(left, loads, strict=True))


@given(LOADS)
def test_somebody_below_the_even_share_loses_nothing(loads: list[Load]) -> None:
    """Only a server that has more than its share by weight is taken from."""
    share = sum(load.connections for load in loads) / sum(load.weight for load in loads)
    for load, more in zip(loads, surplus(loads), strict=True):
        assert not more or load.connections > share * load.weight - 1


@pytest.mark.parametrize(
    ("loads", "extra"),
    [
        ([], []),
        ([Load(9)], [0]),
        ([Load(15), Load(0), Load(15)], [5, 0, 5]),
        ([Load(4), Load(3), Load(3)], [0, 0, 0]),
        ([Load(3), Load(4), Load(3)], [0, 0, 0]),
        ([Load(5), Load(4), Load(3)], [1, 0, 0]),
        ([Load(10, weight=3), Load(10, weight=1)], [0, 5]),
        ([Load(20), Load(5, limit=5)], [0, 0]),
        ([Load(20), Load(5, limit=8)], [3, 0]),
        ([Load(20, limit=10), Load(5, limit=5)], [0, 0]),
    ],
)
def test_what_is_surplus(loads: list[Load], extra: list[int]) -> None:
    """The odd one stays where it is; a full server takes nothing, so nothing is closed for its sake."""
    assert surplus(loads) == extra


@pytest.mark.parametrize(
    ("loads", "extra"),
    [
        ([Load(0), Load(1), Load(1)], [0, 0, 1]),
        ([Load(1), Load(1), Load(0)], [0, 0, 0]),
        ([Load(0), Load(0), Load(1)], [0, 0, 1]),
        ([Load(3), Load(4), Load(3)], [0, 1, 0]),
        ([Load(1), Load(2), Load(2)], [0, 0, 1]),
        ([Load(0, weight=1), Load(2, weight=2)], [0, 1]),
        ([Load(0, limit=0), Load(1, limit=1)], [0, 1]),
    ],
)
def test_what_is_surplus_to_be_at_home(loads: list[Load], extra: list[int]) -> None:
    """The odd one belongs to whoever stands first in the node's order."""
    assert surplus(loads, home=True) == extra


@given(st.lists(st.builds(Load, st.integers(0, 80), st.integers(1, 10), st.integers(0, 40)), min_size=2, max_size=5))
def test_home_is_reached_and_then_nothing_is_surplus(loads: list[Load]) -> None:
    """Whatever is closed goes where least connections and the node's order put it."""
    extra = surplus(loads, home=True)
    left = [load.connections - more for load, more in zip(loads, extra, strict=True)]
    for _ in range(sum(extra)):
        able = [n for n, load in enumerate(loads) if not load.limit or left[n] < load.limit]
        left[min(able, key=lambda n: (left[n] / loads[n].weight, n))] += 1
    after = [load._replace(connections=count) for load, count in zip(loads, left, strict=True)]
    assert surplus(after, home=True) == [0] * len(loads)


@pytest.mark.parametrize("clients", [1, 2, 3, 4])
def test_after_an_outage_of_each_master_in_turn_a_fleet_is_even_again(clients: int) -> None:
    """Each node by itself was even all the time, and all of them had theirs on the same two."""
    nodes = [three(f"node{number}") for number in range(300)]
    sums = dict.fromkeys(("m1", "m2", "m3"), 0)
    for place in nodes:
        place.come(clients)
        for name in sums:
            place.outage(name)
        place.turn(400)
        for name, count in place.counts().items():
            sums[name] += count
    assert max(sums.values()) <= 1.15 * clients * 100
    assert max(place.cut() for place in nodes) <= 4


def test_servers_that_were_only_sick_and_kept_what_they_had_move_nobody() -> None:
    """All masters are, when their etcd is slow for a minute: nothing has become uneven by it."""
    for number in range(20):
        place = three(f"node{number}")
        place.come(2)
        for name in ("m1", "m2", "m3"):
            place.check(name, State.SICK)
        place.turn(10)
        with_some = [name for name, count in place.counts().items() if count]
        for name in with_some:
            place.check(name, State.UP)
        assert place.turn(300) == []


def test_long_after_a_return_nothing_is_moved_to_be_at_home() -> None:
    """Clients come and go, and where they stand then is no worse than any other place."""
    for number in range(20):
        place = three(f"node{number}")
        place.come(2, busy=True)
        place.outage("m2")
        place.turn(HOME + 1)
        for client in place.clients:
            client.busy = False
        assert place.turn(600) == []


@pytest.mark.parametrize("seed", range(10))
def test_requests_that_come_and_go_move_nobodys_watch(seed: int) -> None:
    """They make one server or another uneven at any moment, and none for long."""
    rng = Random(seed)
    place = three()
    place.come(12)
    for _ in range(600):
        for client in [each for each in place.clients[12:] if rng.random() < 0.5]:
            place.leave(client)
        place.come(rng.randint(0, 8), busy=True)
        assert place.turn(1) == []


def test_of_a_surplus_only_what_lasts_goes() -> None:
    """Four at first, and one when the requests that follow have filled the gap."""
    place = three(rebalance=Rebalance(per_minute=600))
    place.come(18)
    for client in [each for each in place.clients if each.lease.server.name == "m2"]:
        place.leave(client)
    assert place.turn(2) == []
    place.come(4, busy=True)
    assert place.counts() == {"m1": 6, "m2": 4, "m3": 6}
    assert len(place.turn(120)) == 1


def test_with_nobody_quiet_it_looks_again_soon() -> None:
    """A kubelet is quiet for some seconds out of ten: who looked once in a minute would seldom meet it so."""
    place = three()
    place.come(6, busy=True)
    place.blip("m2")
    place.turn(120)
    for client in place.clients:
        client.busy = False
    assert len(place.turn(4)) == 1


@pytest.mark.parametrize(
    ("per_minute", "round_"), [(1, (60, 1)), (6, (10, 1)), (60, (1, 1)), (90, (1, 1)), (600, (1, 10))]
)
def test_the_pace_of_the_rounds(per_minute: int, round_: tuple[float, int]) -> None:
    """One at a time up to one a second; more at once above that."""
    assert pace(per_minute) == round_


def test_after_a_servers_return_the_surplus_moves_and_then_all_is_quiet() -> None:
    """15, 0 and 15 become 10 each, and nobody is closed twice over."""
    place = three(rebalance=Rebalance(per_minute=60))
    place.come(30)
    place.blip("m2")
    assert place.counts() == {"m1": 15, "m2": 0, "m3": 15}
    assert len(place.turn(60)) == 10
    assert place.counts() == {"m1": 10, "m2": 10, "m3": 10}
    assert place.turn(600) == []
    assert {reason for each in place.clients for reason in each.reasons} == {REBALANCED}
    assert set(place.asked) == {5.0}


@given(st.sampled_from([1, 5, 60, 100, 600]), st.integers(0, 2**32))
def test_no_minute_sees_more_than_per_minute(per_minute: int, seed: int) -> None:
    """However the jitter falls."""
    place = three(rebalance=Rebalance(per_minute=per_minute))
    place.rebalancer._rng = Random(seed)
    place.come(2 * per_minute + 40)
    place.blip("m2")
    cuts = place.turn(180)
    assert cuts
    assert all(sum(at <= other < at + 60 for other in cuts) <= per_minute for at in cuts)


def test_nodes_that_see_the_same_return_do_not_begin_together() -> None:
    """The first cut of each waits a random part of a round."""
    begins = set()
    for seed in range(20):
        place = three(rebalance=Rebalance(per_minute=1))
        place.rebalancer._rng = Random(seed)
        place.come(30)
        place.blip("m2")
        begins.add(round(place.turn(LASTING + 61)[0]))
    assert len(begins) > 10


def test_a_busy_connection_is_never_closed() -> None:
    """With nothing quiet on the crowded servers, nothing happens."""
    place = three(rebalance=Rebalance(per_minute=60))
    place.come(30, busy=True)
    place.blip("m2")
    assert place.turn(120) == []
    assert place.rebalancer.once(place.now) == {}


def test_off_it_sleeps_and_can_still_be_told_to() -> None:
    """`lbproxy rebalance` does it once, whatever the configuration; with --dry-run it only counts."""
    place = three(rebalance=Rebalance(per_minute=0))
    place.come(30)
    place.blip("m2")
    assert place.rebalancer.due(place.now) == NEVER
    assert place.rebalancer.once(place.now, dry_run=True) == {"m1": 5, "m3": 5}
    assert place.counts() == {"m1": 15, "m2": 0, "m3": 15}
    assert place.rebalancer.once(place.now) == {"m1": 5, "m3": 5}
    assert place.counts() == {"m1": 10, "m2": 10, "m3": 10}
    assert place.rebalancer.once(place.now) == {}


def test_with_fewer_than_two_servers_up_nothing_is_closed() -> None:
    """A client that is cut must have somewhere else to go."""
    place = three(rebalance=Rebalance(per_minute=600))
    place.come(30)
    place.check("m2", State.DOWN)
    place.check("m3", State.DOWN)
    assert place.turn(120) == []


def test_a_server_within_slow_start_is_not_filled_by_cuts() -> None:
    """It would turn most of them away, and they would be cut again."""
    place = three(rebalance=Rebalance(per_minute=600), slow_start=60.0)
    place.come(30)
    place.blip("m2")
    assert place.turn(55) == []
    assert len(place.turn(30)) == 10


def test_a_drained_server_is_left_alone() -> None:
    """What it still has ends by itself or at drain_timeout, and it takes nothing."""
    place = three(rebalance=Rebalance(per_minute=600))
    place.come(30)
    place.pool.servers[1].manual = True
    assert place.turn(120) == []


def test_a_proxy_that_is_being_removed_closes_nothing() -> None:
    """Nobody listens any more: who is cut could not come back."""
    place = three(rebalance=Rebalance(per_minute=600))
    place.come(30)
    place.blip("m2")
    place.serving = False
    assert place.rebalancer.due(place.now) == NEVER


def test_counts_of_several_add_up() -> None:
    """By server name, over proxies and worker processes."""
    assert sum_up([{"m1": 2}, {}, {"m1": 1, "m2": 4}]) == {"m1": 3, "m2": 4}
