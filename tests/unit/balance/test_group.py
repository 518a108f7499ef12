"""One name and its addresses: what an answer changes, and what the whole of them is shown as."""

from __future__ import annotations

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import MISSED, Group
from lbproxy.balance.health import Rules
from lbproxy.balance.server import Endpoint, Lease, Server
from lbproxy.balance.state import State
from lbproxy.config.model import Address, ServerConfig

HEALTH = Rules(rise=1, fall=1, interval=1.0)


def at(*places: str) -> list[Endpoint]:
    """Return the endpoints of addresses, given by their last letter."""
    return [(2, (f"10.0.0.{place}", 6443)) for place in places]


def group_of(*places: str, rules: Rules | None = None) -> Group:
    """Return a server called `api` whose name has these addresses."""
    group = Group(ServerConfig(address=Address("api.test", 6443), name="api"), rules or Rules(), 0.0)
    group.resolved(at(*places), 0.0)
    return group


def places(servers: list[Server]) -> str:
    """Return the last letters of their addresses; `-` for none."""
    return "".join(server.place[-1] if server.place else "-" for server in servers)


@pytest.mark.parametrize(
    ("before", "answer", "after", "came", "gone"),
    [
        ("12", "12", "12", "", ""),
        ("12", "22", "21", "", ""),
        ("12", "1", "12", "", ""),
        ("12", "3", "312", "3", ""),
        ("123", "24", "2413", "4", ""),
    ],
)
def test_what_an_answer_lacks_stays_for_a_while(before: str, answer: str, after: str, came: str, gone: str) -> None:
    """A name server that gives some of the addresses in turn drained the others, and cut what they had."""
    group = group_of(*before)
    news = group.resolved(at(*answer), 1.0)
    assert (places(group.members), places(news[0]), places(news[1])) == (after, came, gone)
    group.resolved(at(*before), MISSED - 1)
    assert group.resolved(at(*answer), MISSED) == ([], [])


@pytest.mark.parametrize(
    ("before", "answer", "after", "came", "gone"),
    [
        ("", "", "-", "", ""),
        ("", "1", "1", "1", ""),
        ("", "12", "12", "12", ""),
        ("1", "", "1", "", ""),
        ("12", "", "12", "", ""),
        ("12", "12", "12", "", ""),
        ("12", "21", "21", "", ""),
        ("12", "22", "2", "", "1"),
        ("12", "123", "123", "3", ""),
        ("12", "1", "1", "", "2"),
        ("12", "3", "3", "3", "12"),
        ("123", "24", "24", "4", "13"),
    ],
)
def test_what_an_answer_changes(before: str, answer: str, after: str, came: str, gone: str) -> None:
    """An empty one nothing: who has lost a zone has not switched off the machines in it. Others do so in the end."""
    group = group_of(*before)
    known = {server.place: server for server in group.members}
    news = group.resolved(at(*answer), MISSED)
    assert (places(group.members), places(news[0]), places(news[1])) == (after, came, gone)
    assert all(known.get(server.place, server) is server for server in group.members)


def test_the_first_address_is_taken_by_the_member_that_had_none() -> None:
    """It was never chosen; nothing is added beside it."""
    group = group_of()
    (nameless,) = group.members
    assert group.state()[:2] == (State.DOWN, "its name does not resolve")
    assert group.resolved(at("1"), 1.0) == ([nameless], [])
    assert nameless.usable()


def test_a_new_address_of_a_drained_server_is_drained_too() -> None:
    """The operator has spoken of the name."""
    group = group_of("1")
    group.members[0].manual, group.members[0].drained_at = True, 7.0
    group.resolved(at("2"), MISSED)
    assert [(server.manual, server.drained_at) for server in group.members] == [(True, 7.0)]


def test_max_conns_holds_for_all_addresses_together() -> None:
    """Also for those that have gone and still have connections."""
    group = group_of("1", "2")
    group.configure(ServerConfig(address=Address("api.test", 6443), name="api", max_conns=5), Rules())
    one, two = group.members
    held = [Lease(one), Lease(one), Lease(two)]
    assert (group.counts.connections, one.limit(), two.limit()) == (3, 4, 3)
    group.resolved(at("2"), MISSED)
    assert (group.counts.connections, two.limit()) == (3, 3)
    for lease in held:
        lease.release()
    assert (group.counts.connections, two.limit()) == (0, 5)


def test_a_lease_that_moves_is_counted_once() -> None:
    """Of a server that comes back while its connections drain."""
    old, new = group_of("1"), group_of("1")
    lease = Lease(old.members[0])
    lease.move(new.members[0])
    assert (old.counts.connections, new.counts.connections) == (0, 1)
    lease.release()
    assert (old.members[0].connections, new.members[0].connections, new.counts.connections) == (0, 0, 0)


UP, SICK = CheckResult(State.UP, "200: ready", "ok"), CheckResult(State.SICK, "500: [-]etcd failed", "http_500")
DOWN, OTHER = CheckResult(State.DOWN, "refused", "refused"), CheckResult(State.DOWN, "timed out", "timeout")
DRAINS = CheckResult(State.DRAINING, "[-]shutdown", "shutdown")


@pytest.mark.parametrize(
    ("results", "state", "reason"),
    [
        ([UP], State.UP, "200: ready"),
        ([SICK], State.SICK, "500: [-]etcd failed"),
        ([UP, UP], State.UP, "200: ready"),
        ([UP, SICK, UP], State.UP, "2 of 3 addresses up; 10.0.0.2 sick: 500: [-]etcd failed"),
        ([DOWN, UP, SICK], State.UP, "1 of 3 addresses up; 10.0.0.1 down: refused; 10.0.0.3 sick: 500: [-]etcd failed"),
        ([DOWN, DOWN], State.DOWN, "refused"),
        ([DOWN, OTHER], State.DOWN, "2 of 2 addresses down; 10.0.0.1: refused; 10.0.0.2: timed out"),
        ([DRAINS, DOWN], State.DRAINING, "1 of 2 addresses draining; 10.0.0.1: [-]shutdown; 10.0.0.2 down: refused"),
        ([UP, None], State.UP, "1 of 2 addresses up; 10.0.0.2 unchecked: no check has answered yet"),
        ([None, None], State.UNCHECKED, "no check has answered yet"),
    ],
)
def test_its_state_is_that_of_its_best_address(results: list[CheckResult | None], state: State, reason: str) -> None:
    """It serves as long as one does; the reason names those that differ."""
    group = group_of(*"123"[: len(results)], rules=HEALTH)
    for server, result in zip(group.members, results, strict=True):
        if result is not None:
            server.health.observe(result, 1.0)
    assert group.state()[:2] == (state, reason)


def test_a_group_that_is_told_where_its_members_are_has_no_others() -> None:
    """Who looks up names has decided which of them outlive an answer; those that stay keep what they carry."""
    group = Group(ServerConfig(address=Address("m.test", 6443), name="m"), Rules(), 0.0)
    one, two, three = ((2, (f"127.0.0.{at}", 6443)) for at in (1, 2, 3))
    came, gone = group.agree([one, two], [one, two], 1.0)
    assert ([server.endpoint for server in came], gone) == ([one, two], [])
    stays = group.members[1]
    came, gone = group.agree([two, three], [two, three], 2.0)
    assert ([server.endpoint for server in came], [server.endpoint for server in gone]) == ([three], [one])
    assert group.members[0] is stays
