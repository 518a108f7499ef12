"""Who gets a connection: least connections, tiers, ties by node, and never nobody while there is somebody."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lbproxy.balance import pool as numbers
from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import MISSED
from lbproxy.balance.pool import Pool, rules_of
from lbproxy.balance.server import Lease, Server
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.found import FoundServer
from lbproxy.config.model import Address, HealthConfig, ProxyConfig, ServerConfig

POOL = Path(__file__).parents[3] / "lbproxy" / "balance" / "pool.py"
LISTEN = (Address("127.0.0.1", 6443),)
DOWN = CheckResult(State.DOWN, "refused", "refused")
SICK = CheckResult(State.SICK, "500", "http_500")
DRAINING = CheckResult(State.DRAINING, "shutdown", "shutdown")
UP = CheckResult(State.UP, "ok", "ok")
EARLY_END = TrafficResult("closed", answered=True)
BAD = {"sick": SICK, "draining": DRAINING, "down": DOWN}


def one(name: str, **settings: object) -> ServerConfig:
    """Return the configuration of a server."""
    return replace(ServerConfig(address=Address(f"{name}.test", 6443), name=name), **settings)  # type: ignore[arg-type]


def settings_of(*servers: ServerConfig | str, **settings: object) -> ProxyConfig:
    """Return the configuration of a proxy in front of `servers`."""
    found = tuple(one(s) if isinstance(s, str) else s for s in servers)
    return replace(ProxyConfig(listen=LISTEN, servers=found), **settings)  # type: ignore[arg-type]


def pool_of(*servers: ServerConfig | str, node: str = "node", rng: Random | None = None, **settings: object) -> Pool:
    """Return a pool whose servers all have an address."""
    pool = Pool(settings_of(*servers, **settings), node, 0.0, rng)
    give_addresses(pool)
    return pool


def give_addresses(pool: Pool) -> None:
    """Do what the resolver does."""
    for group in pool.groups:
        pool.resolved(group, [(2, ("127.0.0.1", 6443))], 0.0)


def member(pool: Pool, name: str) -> Server:
    """Return the one member of a configured server."""
    group = pool.find(name)
    assert group is not None
    (server,) = group.members
    return server


def take(pool: Pool, now: float = 0.0, tried: tuple[str, ...] = ()) -> str:
    """Pick and keep; returns the server's name, "" if there was none."""
    lease = pool.pick(now, [server for server in pool.servers if server.name in tried])
    return lease.server.name if lease else ""


def mark(pool: Pool, name: str, result: CheckResult, now: float = 0.0) -> None:
    """Have the checks say so until it counts."""
    server = member(pool, name)
    for _ in range(8):
        server.health.observe(result, now)


def test_connections_are_counted_by_weight() -> None:
    """A server of weight 3 carries three times as many as one of weight 1."""
    pool = pool_of(one("a", weight=3), one("b", weight=1), one("c", weight=2))
    assert Counter(take(pool) for _ in range(60)) == {"a": 30, "b": 10, "c": 20}


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 120))
def test_loads_never_differ_by_more_than_one_connection(weights: list[int], count: int) -> None:
    """However many are placed, moving one would not make it any better."""
    pool = pool_of(*(one(f"s{at}", weight=weight) for at, weight in enumerate(weights)))
    for _ in range(count):
        take(pool)
    least = min(server.connections / server.weight for server in pool.servers)
    assert all((server.connections - 1) / server.weight <= least for server in pool.servers)


def test_a_place_counts_from_the_moment_of_choice_and_until_it_is_given_up() -> None:
    """So that clients who come while one is still connecting do not all go the same way."""
    pool = pool_of("a", "b")
    first, second = pool.pick(0.0), pool.pick(0.0)
    assert first is not None
    assert second is not None
    assert first.server is not second.server
    first.release()
    first.release()
    assert first.server.connections == 0
    assert second.server.connections == 1


def test_tiers_are_used_from_the_best_to_the_worst() -> None:
    """Each only when everything before it is full or tried; a server that was tried is not picked again."""
    prose = ast.get_docstring(ast.parse(POOL.read_text())) or ""
    tiers = re.findall(r"^    ([A-Z]+)  ", prose, re.MULTILINE)
    assert [getattr(numbers, tier) for tier in tiers] == list(range(numbers.NEVER))
    names = [tier.lower() for tier in tiers]
    pool = pool_of(*(one(name, backup=name == "backup") for name in reversed(names)), slow_start=100.0)
    for name, result in BAD.items():
        mark(pool, name, result)
    member(pool, "slowly").recovered_at = 1.0
    mark(pool, "alive", CheckResult(State.UP, "403", "http_403", sure=False))
    member(pool, "suspect").health.observe(EARLY_END, 1.0)
    order: list[str] = []
    while name := take(pool, 1.0, tried=tuple(order)):
        order.append(name)
    assert order == names


def test_a_backup_serves_only_without_primaries() -> None:
    """However many connections those have."""
    pool = pool_of("a", one("spare", backup=True))
    assert {take(pool) for _ in range(50)} == {"a"}
    mark(pool, "a", DOWN)
    assert take(pool) == "spare"
    mark(pool, "a", UP)
    assert take(pool) == "a"


@pytest.mark.parametrize("why", ["down", "manual", "full", "nameless"])
def test_some_are_never_picked(why: str) -> None:
    """Switched off, drained by the operator, full or without an address: there is nobody to ask."""
    pool = pool_of(one("a", down=why == "down", max_conns=2 if why == "full" else 0))
    server = pool.servers[0]
    if why == "manual":
        server.manual = True
    elif why == "nameless":
        server.endpoint = None
    leases = [pool.pick(0.0), pool.pick(0.0)] if why == "full" else []
    assert take(pool) == ""
    for lease in leases:
        assert lease is not None
        lease.release()
    if why == "full":
        assert take(pool) == "a"


def test_with_every_server_down_all_of_them_are_still_tried() -> None:
    """What is remembered may be out of date, and is no reason to refuse."""
    pool = pool_of("a", "b", "c")
    for server in pool.servers:
        mark(pool, server.name, DOWN)
        server.health.observe(TrafficResult("refused"), 0.0)
    tried: list[str] = []
    while name := take(pool, tried=tuple(tried)):
        tried.append(name)
    assert sorted(tried) == ["a", "b", "c"]


def test_of_suspects_the_one_whose_failure_is_longest_ago_is_asked_first() -> None:
    """The emptiest may just be the one that answers nobody; and who has ever answered goes before who has not."""
    pool = pool_of("a", "b", "c", "d", fail_timeout=100.0)
    for now, name in enumerate("cabd"):
        server = member(pool, name)
        server.connections = 9 - now
        server.health.suspicion.proved = name != "c"
        server.health.observe(TrafficResult("refused"), float(now))
    tried: list[str] = []
    while name := take(pool, 5.0, tried=tuple(tried)):
        tried.append(name)
    assert tried == ["a", "b", "d", "c"]


def test_suspects_go_before_those_that_checks_have_found_down() -> None:
    """A check looks again and again; what clients have met may have been once."""
    pool = pool_of("down", "suspect")
    mark(pool, "down", DOWN)
    suspect = member(pool, "suspect")
    suspect.health.observe(TrafficResult("refused"), 0.0)
    assert [take(pool), take(pool)] == ["suspect"] * 2


def test_who_only_lives_stands_behind_who_is_ready() -> None:
    """A master that answers 403 while others say 200 has not loaded its roles yet; if all say so it means nothing."""
    pool = pool_of("ready", "alive", one("spare", backup=True), health=HealthConfig(rise=1))
    mark(pool, "ready", UP)
    mark(pool, "alive", CheckResult(State.UP, "403", "http_403", sure=False))
    assert {take(pool) for _ in range(5)} == {"ready"}
    assert take(pool, tried=("ready",)) == "alive"
    mark(pool, "ready", CheckResult(State.UP, "403", "http_403", sure=False))
    assert {take(pool) for _ in range(9)} == {"alive", "ready"}


def test_who_was_not_checked_yet_is_chosen_like_the_others() -> None:
    """A node that boots must not send everybody to the server whose check came back first."""
    pool = pool_of("a", "b", health=HealthConfig())
    mark(pool, "a", UP)
    assert Counter(take(pool) for _ in range(6)) == {"a": 3, "b": 3}


def test_a_suspect_server_gets_one_connection_when_its_time_has_come() -> None:
    """That one is its trial; the next ones go elsewhere until it has worked."""
    pool = pool_of("a", "b", fail_timeout=10.0)
    suspect = member(pool, "a")
    suspect.health.observe(TrafficResult("refused"), 0.0)
    assert {take(pool, 9.9) for _ in range(5)} == {"b"}
    assert [take(pool, 10.0) for _ in range(4)].count("a") == 1
    suspect.health.observe(TrafficResult(), 11.0)
    assert take(pool, 11.0) == "a"


def test_slow_start_lets_a_recovered_server_in_by_and_by() -> None:
    """The chance to be picked grows with the time since; a node that has bad luck takes another server."""
    shares = []
    for since in (1.0, 25.0, 50.0, 99.0, 100.0):
        picked = Counter[str]()
        for seed in range(400):
            pool = pool_of("a", "back", slow_start=100.0, rng=Random(seed))
            back = member(pool, "back")
            back.recovered_at = 0.0
            pool.servers[0].connections = 5
            picked[take(pool, since)] += 1
        shares.append(picked["back"] / 400)
    assert shares == pytest.approx([0.01, 0.25, 0.5, 0.99, 1.0], abs=0.08)


def test_a_server_that_recovers_a_moment_later_than_now_is_in_at_once() -> None:
    """Who asks may have read the clock before; without slow_start there is nothing to wait for."""
    pool = pool_of("a")
    pool.servers[0].recovered_at = 10.0
    assert take(pool, 9.999) == "a"


def test_slow_start_refuses_nobody() -> None:
    """A server that is being let in slowly serves when it is the only one."""
    pool = pool_of("a", one("spare", backup=True), slow_start=100.0, rng=Random(1))
    pool.servers[0].recovered_at = 0.0
    assert {take(pool, 0.001) for _ in range(20)} == {"a"}


def test_a_server_that_was_there_at_the_start_is_not_let_in_slowly() -> None:
    """Slow start is for one that comes back."""
    pool = pool_of("a", "b", slow_start=1000.0)
    assert {take(pool, 1.0) for _ in range(2)} == {"a", "b"}


def test_servers_that_stay_keep_everything_across_a_reload() -> None:
    """Counters, state, and the operator's word; a changed address is another server, and so is a new name."""
    pool = pool_of("a", "b", "c")
    kept = member(pool, "a")
    take(pool)
    mark(pool, "a", DOWN)
    kept.manual = True
    kept.counts.connections_total = 7
    moved = ServerConfig(address=Address("elsewhere.test", 6443), name="b")
    added, removed = pool.reconcile(
        settings_of(one("a", weight=5), moved, "d", max_fails=9, health=HealthConfig(rise=7)), "node", 1.0
    )
    assert sorted(group.settings.name for group in added) == ["b", "d"]
    assert sorted(group.settings.name for group in removed) == ["b", "c"]
    assert [server.name for server in pool.servers] == ["a", "b", "d"]
    assert member(pool, "a") is kept
    assert (kept.manual, kept.counts.connections_total, kept.settings.weight) == (True, 7, 5)
    assert (kept.health.state, kept.health.rules.max_fails, kept.health.rules.rise) == (State.DOWN, 9, 7)


def test_a_server_that_comes_back_begins_anew() -> None:
    """What was known of it before it left the configuration may have been the reason why."""
    pool = pool_of("a", "b")
    mark(pool, "a", DOWN)
    pool.reconcile(settings_of("b"), "node", 1.0)
    pool.reconcile(settings_of("a", "b"), "node", 2.0)
    back = member(pool, "a")
    assert back.health.state is State.UP


def test_a_server_is_found_by_name_and_by_address() -> None:
    """As the operator may call it."""
    pool = pool_of("a", "b")
    assert pool.find("b") is pool.find("b.test:6443") is pool.groups[1]
    assert pool.find("x") is None


def test_each_address_of_a_name_is_chosen_and_judged_by_itself() -> None:
    """One that is sick gets nobody, one that has gone gets nobody, and none is anybody's first on every node."""
    pool = pool_of("a")
    (group,) = pool.groups
    places = [(2, (f"10.0.0.{n}", 6443)) for n in (1, 2, 3)]
    pool.resolved(group, places, MISSED)
    assert Counter(lease.server.place for _ in range(6) if (lease := pool.pick(0.0))) == {
        "10.0.0.1": 2, "10.0.0.2": 2, "10.0.0.3": 2,
    }  # fmt: skip
    assert pool.others_up(group.members[0])
    group.members[1].health.observe(SICK, 0.0)
    group.members[1].health.observe(SICK, 0.0)
    pool.resolved(group, places[1:], 2 * MISSED)
    assert {lease.server.place for _ in range(6) if (lease := pool.pick(0.0))} == {"10.0.0.3"}
    firsts = Counter()
    for node in range(300):
        other = Pool(settings_of("a"), f"node{node}", 0.0)
        other.resolved(other.groups[0], places, 0.0)
        lease = other.pick(0.0)
        assert lease is not None
        firsts[lease.server.place] += 1
    assert min(firsts.values()) > 60


def test_others_up_counts_neither_itself_nor_what_takes_nothing() -> None:
    """It is asked before connections are moved off."""
    pool = pool_of("a", "b", one("off", down=True))
    a, b, _ = pool.servers
    assert pool.others_up(a)
    b.manual = True
    assert not pool.others_up(a)
    assert pool.others_up(b)


def test_who_was_not_checked_yet_may_take_over_what_is_moved_off() -> None:
    """A daemon that has just started would otherwise keep everybody at a server that is dead."""
    pool = pool_of("a", "b", health=HealthConfig())
    mark(pool, "a", CheckResult(State.DOWN, "refused", "refused"))
    assert pool.others_up(member(pool, "a"))


def test_the_rules_come_from_the_settings() -> None:
    """Without checks rise and fall do not matter."""
    rules = rules_of(settings_of("a", max_fails=4, fail_timeout=7.0, health=HealthConfig(rise=3, fall=5)))
    assert (rules.rise, rules.fall, rules.max_fails, rules.fail_timeout) == (3, 5, 4, 7.0)


class PoolMachine(RuleBasedStateMachine):
    """Any order of picks, releases, results, reloads and operator's words."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.pool = pool_of("a", one("b", max_conns=2), one("c", backup=True), slow_start=5.0, rng=Random(0))
        self.gone: list[Lease] = []
        self.held: list[Lease] = []

    @rule(target=leases, tried=st.sets(st.integers(0, 4)))
    def pick(self, tried: set[int]) -> Lease | None:
        """Somebody is picked unless everybody is excluded for good reason."""
        excluded = [server for at, server in enumerate(self.pool.servers) if at in tried]
        lease = self.pool.pick(self.now, excluded)
        free = [
            server
            for server in self.pool.servers
            if server not in excluded
            and server.endpoint
            and not server.manual
            and not server.settings.down
            and not (server.settings.max_conns and server.connections >= server.settings.max_conns)
        ]
        if lease is None:
            assert free == []
            return None
        lease.server.connections -= 1
        assert lease.server in self.pool.servers
        assert not lease.server.settings.max_conns or lease.server.connections < lease.server.settings.max_conns
        lease.server.connections += 1
        assert lease.server not in excluded
        assert not lease.server.manual
        self.held.append(lease)
        return lease

    @rule(lease=consumes(leases), times=st.integers(1, 3))
    def release(self, lease: Lease | None, times: int) -> None:
        """Once or more often."""
        if lease is not None:
            for _ in range(times):
                lease.release()
            self.held.remove(lease)

    @rule(
        at=st.integers(0, 4),
        seen=st.sampled_from([UP, SICK, DRAINING, DOWN, TrafficResult("x"), TrafficResult(), EARLY_END]),
    )
    def observe(self, at: int, seen: CheckResult | TrafficResult) -> None:
        """Something is learnt."""
        server = self.pool.servers[at % len(self.pool.servers)]
        transition = server.health.observe(seen, self.now)
        if transition is not None and transition.new is State.UP:
            server.recovered_at = self.now

    @rule(at=st.integers(0, 4), manual=st.booleans())
    def drain(self, at: int, manual: bool) -> None:
        """Have the operator speak."""
        self.pool.servers[at % len(self.pool.servers)].manual = manual

    @rule(names=st.lists(st.sampled_from("abcde"), min_size=1, unique=True))
    def reload(self, names: list[str]) -> None:
        """Change the file."""
        self.pool.reconcile(settings_of(*names, slow_start=5.0), "node", self.now)
        give_addresses(self.pool)

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def counters_are_the_leases(self) -> None:
        """Check that counting and un-counting have not drifted apart."""
        held = Counter(id(lease.server) for lease in self.held)
        servers = [*self.pool.servers, *(lease.server for lease in self.held)]
        assert all(server.connections == held[id(server)] for server in servers)


TestPool = PoolMachine.TestCase


def found(name: str, *, good: bool = False) -> FoundServer:
    """Return the configuration of a server that was found."""
    return FoundServer(address=Address(f"{name}.test", 6443), name=name, source="dns", good=good)


def test_a_found_server_is_not_picked_before_its_first_good_check() -> None:
    """Not even with nobody else: who names servers may be wrong about all of them."""
    pool = pool_of(found("a"), health=HealthConfig())
    server = member(pool, "a")
    assert pool.pick(0.0) is None
    assert not server.usable()
    assert server.state()[:2] == (State.UNCHECKED, "found, and not used before its first good check")
    for _ in range(3):
        server.health.observe(DOWN, 1.0)
    assert pool.pick(2.0) is None


def test_a_found_server_that_has_been_good_is_like_any_other() -> None:
    """Before this process, by what is on disk; or where there are no checks, which could never say it."""
    assert pool_of(found("a", good=True), health=HealthConfig()).pick(0.0)
    assert pool_of(found("a")).pick(0.0)


def test_a_found_server_is_used_once_the_file_names_it_or_checks_are_taken_away() -> None:
    """Then there is nothing more to wait for."""
    for settings in (settings_of("a", health=HealthConfig()), settings_of(found("a"))):
        pool = pool_of(found("a"), health=HealthConfig())
        pool.reconcile(settings, "node", 0.0)
        assert pool.pick(0.0)


def test_a_server_that_was_removed_and_is_there_again_is_another_one() -> None:
    """Nobody looks after the one before any more: its state would stand still, and its connections be shown nowhere."""
    pool = pool_of("a", "b")
    assert pool.pick(1.0) is not None
    for names in (("b",), ("a", "b")):
        pool.reconcile(settings_of(*names), "node", 2.0)
    give_addresses(pool)
    chosen = [pool.pick(3.0) for _ in range(4)]
    assert all(lease is not None and lease.server in pool.servers for lease in chosen)


def test_late_counts_as_late_everywhere_only_while_it_is_news() -> None:
    """A server that kept a client waiting an hour ago, and that nobody has asked since, is as good as another."""
    servers = tuple(ServerConfig(address=Address("10.0.0.1", n)) for n in (1, 2))
    pool = Pool(ProxyConfig(listen=(Address("127.0.0.1", 1),), servers=servers), "n", 0.0)
    one, other = pool.servers
    for server in (one, other):
        server.endpoint = (2, ("10.0.0.1", 1))
    other.failed(late=True, now=100.0)
    assert pool.only_late_left(105.0, [one])
    assert not pool.only_late_left(3700.0, [one])
    assert not pool.only_late_left(105.0, [one, other]), "nobody is left, late or not"
    other.answered(106.0)
    assert not pool.only_late_left(107.0, [one])
