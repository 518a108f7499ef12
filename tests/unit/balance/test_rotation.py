"""Equals take turns, by weight, and every node begins somewhere else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.pool import Pool
from lbproxy.balance.rotation import pass_over, ring, take_turn
from tests.unit.balance.test_pool import one, pool_of, settings_of

NODES = [f"node-{number}" for number in range(1000)]


def one_after_another(pool: Pool, count: int) -> list[str]:
    """Make connections, each closed before the next; returns where they went."""
    names = []
    for _ in range(count):
        lease = pool.pick(0.0)
        assert lease is not None
        names.append(lease.server.name)
        lease.release()
    return names


def by_weights(*weights: int, node: str = "node") -> Pool:
    """Return a pool of servers s0, s1, ... of these weights."""
    return pool_of(*(one(f"s{at}", weight=weight) for at, weight in enumerate(weights)), node=node)


@pytest.mark.parametrize("node", NODES[:20])
def test_connections_one_after_another_spread_evenly_over_equal_servers(node: str) -> None:
    """Nginx's own test for least connections: 30 in a row over two servers, 15 each."""
    assert Counter(one_after_another(by_weights(1, 1, node=node), 30)) == {"s0": 15, "s1": 15}


@pytest.mark.parametrize("node", NODES[:20])
def test_weights_hold_in_sequence(node: str) -> None:
    """Nginx's own test for weights: 30 in a row over weights 1 and 2, 10 and 20."""
    assert Counter(one_after_another(by_weights(1, 2, node=node), 30)) == {"s0": 10, "s1": 20}


@given(st.lists(st.just(1), min_size=1, max_size=6), st.integers(1, 100), st.sampled_from(NODES))
def test_at_no_time_does_one_of_equals_get_more_than_one_more(weights: list[int], count: int, node: str) -> None:
    """However many connections there were by then."""
    seen = Counter(one_after_another(by_weights(*weights, node=node), count))
    counts = [seen[f"s{at}"] for at in range(len(weights))]
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(NODES))
def test_over_a_whole_round_each_gets_its_weight(weights: list[int], node: str) -> None:
    """In this round and in every later one, wherever the node begins."""
    pool = by_weights(*weights, node=node)
    for _ in range(3):
        seen = Counter(one_after_another(pool, sum(weights)))
        assert seen == {f"s{at}": weight for at, weight in enumerate(weights)}


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1), (1, 2)])
def test_the_first_connections_of_a_thousand_nodes_spread_by_weight(weights: tuple[int, ...]) -> None:
    """In file order the first server would get all of them; each is within a tenth of its share."""
    firsts = Counter(one_after_another(by_weights(*weights, node=node), 1)[0] for node in NODES)
    for at, weight in enumerate(weights):
        share = 1000 * weight / sum(weights)
        assert abs(firsts[f"s{at}"] - share) <= share / 10


def test_when_a_server_goes_only_its_own_share_moves() -> None:
    """And it moves to all of the others."""
    moved = Counter[str]()
    for node in NODES[:300]:
        before = one_after_another(pool_of("m1", "m2", "m3", node=node), 1)[0]
        after = one_after_another(pool_of("m1", "m3", node=node), 1)[0]
        if before == "m2":
            moved[after] += 1
        else:
            assert after == before
    assert set(moved) == {"m1", "m3"}
    assert min(moved.values()) > 25


def test_the_order_of_the_file_does_not_matter() -> None:
    """The ring is made of node and names alone."""
    for node in NODES[:20]:
        assert one_after_another(pool_of("a", "b", "c", node=node), 6) == one_after_another(
            pool_of("c", "a", "b", node=node), 6
        )


def test_turns_among_some_leave_the_others_where_they_are() -> None:
    """Who is busy takes no part: it neither gains nor loses a turn by what the others do."""
    servers = by_weights(1, 1, 1).servers
    ordered = ring(servers, "node")
    before = ordered[2].turn
    assert [take_turn(ordered[:2]) for _ in range(4)] == [ordered[0], ordered[1]] * 2
    assert ordered[2].turn == before


def test_who_is_passed_over_is_not_the_next_among_equals() -> None:
    """And after that it takes its turns as the others do."""
    for number in range(20):
        servers = by_weights(1, 1, 1, node=f"node{number}").ring
        first = servers[0]
        pass_over(first, servers)
        taken = [take_turn(servers) for _ in range(7)]
        assert taken[0] is not first
        assert 1 <= taken.count(first) <= 2


def test_a_reload_that_changes_no_server_does_not_begin_again() -> None:
    """Or a node that reloads often would favour the first of its ring."""
    pool = pool_of("a", "b", "c")
    seen = Counter[str]()
    for _ in range(9):
        seen.update(one_after_another(pool, 1))
        pool.reconcile(settings_of("a", "b", "c"), "node", 0.0)
    assert set(seen.values()) == {3}
