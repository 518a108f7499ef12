"""Counts that several processes keep together, and what is decided by them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.pool import Pool
from lbproxy.balance.server import Lease
from lbproxy.balance.shared import Cell, Shares
from lbproxy.config.model import Address, ProxyConfig, ServerConfig

COLUMNS = 16


class Latch:
    """A guard that only counts."""

    def __init__(self) -> None:
        self.taken = 0
        self.held = False

    def take(self) -> None:
        """Have it."""
        assert not self.held
        self.held = True
        self.taken += 1

    def release(self) -> None:
        """Give it up."""
        self.held = False


class Processes:
    """So many processes with a pool each, of the same servers, that count in one memory."""

    def __init__(self, number: int, *servers: ServerConfig) -> None:
        numbers = memoryview(bytearray(number * COLUMNS * 8)).cast("q")
        self.latch = Latch()
        self.shares = [Shares(numbers, number, COLUMNS, row, self.latch) for row in range(number)]
        self.pools = [self._pool(shares, *servers) for shares in self.shares]

    def _pool(self, shares: Shares, *servers: ServerConfig) -> Pool:
        proxy = ProxyConfig(listen=(Address("127.0.0.1", 1),), servers=servers, slow_start=0.0)
        pool = Pool(proxy, "node", 0.0)
        pool.shares = shares
        for at, group in enumerate(pool.groups):
            pool.resolved(group, [(2, (f"127.0.0.{at + 1}", 6443))], 0.0)
            group.counts.share(shares.cell(2 * at))
            group.members[0].share(shares.cell(2 * at + 1))
        return pool

    def loads(self) -> Counter[str]:
        """Return how many connections each server has in all, as it is known everywhere."""
        found = [Counter({s.name: s.carried() for s in pool.servers}) for pool in self.pools]
        assert all(each == found[0] for each in found)
        return found[0]


def servers(*names: str, max_conns: int = 0) -> list[ServerConfig]:
    """Return servers of these names."""
    return [ServerConfig(address=Address(f"{name}.test", 1), name=name, max_conns=max_conns) for name in names]


def test_a_sum_is_that_of_all_rows() -> None:
    """Each process writes its own number and reads all others'."""
    numbers = memoryview(bytearray(8 * 6)).cast("q")
    first, second, third = (Cell(numbers, at, [each for each in range(3) if each != at]) for at in range(3))
    for cell, number in ((first, 5), (second, 7), (third, 1)):
        cell.put(number)
    assert [cell.elsewhere() for cell in (first, second, third)] == [8, 6, 12]


def test_one_that_writes_no_row_reads_them_all() -> None:
    """The process that leads carries nothing, and knows what all carry."""
    numbers = memoryview(bytearray(8 * 2 * COLUMNS)).cast("q")
    numbers[3], numbers[COLUMNS + 3] = 4, 5
    cell = Shares(numbers, 2, COLUMNS, -1, Latch()).cell(3)
    assert cell is not None
    assert cell.elsewhere() == 9


def test_what_has_no_column_has_no_cell() -> None:
    """It is counted by each process alone."""
    assert Shares(memoryview(bytearray(8)).cast("q"), 1, 1, 0, Latch()).cell(-1) is None


def test_a_process_is_ahead_only_when_it_clearly_is() -> None:
    """By more than eight, and by more than an eighth of many; one alone never is."""
    numbers = memoryview(bytearray(8 * 3)).cast("q")
    cell = Cell(numbers, 0, [1, 2])
    numbers[1], numbers[2] = 100, 10
    assert [cell.ahead(number) for number in (17, 18, 19)] == [False, False, True]
    numbers[2] = 100
    assert [cell.ahead(number) for number in (114, 115)] == [False, True]
    assert not Cell(numbers, 0, []).ahead(1000)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=80))
def test_processes_in_turn_choose_as_one_would(steps: list[tuple[int, bool]]) -> None:
    """With all held connections known everywhere, no server has two more than another after arrivals alone."""
    world = Processes(3, *servers("a", "b", "c"))
    held: list[Lease] = []
    for process, leaves in steps:
        if leaves and held:
            held.pop().release()
        else:
            lease = world.pools[process].pick(0.0)
            assert lease is not None
            held.append(lease)
        loads = world.loads()
        assert loads.total() == len(held)
        assert max(loads[name] for name in "abc") - min(loads[name] for name in "abc") <= 1


def test_two_that_choose_in_one_instant_are_off_by_one() -> None:
    """Neither sees the other's choice; what is known a moment later keeps it from growing."""
    world = Processes(2, *servers("a", "b", "c"))
    for _ in range(300):
        cells = [(s, s.cell) for s in world.pools[1].servers]
        for server, _cell in cells:
            server.cell = None  # the second one does not see what the first is choosing
        mine = [server.connections for server, _ in cells]
        world.pools[0].pick(0.0)
        for server, cell in cells:
            server.cell = cell
        assert mine == [server.connections for server, _ in cells]
        world.pools[1].pick(0.0)
        loads = world.loads()
        assert max(loads.values()) - min(loads.values()) <= 2


def test_a_limit_holds_over_all_processes() -> None:
    """Max_conns is the server's and not the worker's; the guard is taken only where one more might be too many."""
    world = Processes(2, *servers("a", "b", max_conns=10))
    leases = [world.pools[at % 2].pick(0.0) for at in range(14)]
    assert (all(leases), world.latch.taken) == (True, 0)
    more = [world.pools[at % 2].pick(0.0) for at in range(10)]
    assert sum(lease is not None for lease in more) == 6
    assert world.loads() == {"a": 10, "b": 10}
    assert world.latch.taken > 0
    assert not world.latch.held


def test_each_process_begins_one_server_further_on() -> None:
    """The first connections of all of them would otherwise meet at one server, where they are over at once."""
    world = Processes(3, *servers("a", "b", "c"))
    first = []
    for pool in world.pools:
        lease = pool.pick(0.0)
        assert lease is not None
        first.append(lease.server.name)
        lease.release()
    assert sorted(first) == ["a", "b", "c"]
