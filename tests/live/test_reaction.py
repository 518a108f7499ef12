"""What becomes of connections when something happens to their server."""

from __future__ import annotations

import socket

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.group import MISSED
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult
from lbproxy.config.model import Address, ServerConfig
from lbproxy.proxy.reaction import GRACE, SPREAD
from lbproxy.proxy.sessions import REMOVED
from tests.live.place import Place
from tests.unit.relay.hand import ended, reset


def test_a_drained_server_is_cut_when_its_time_is_over_and_not_if_it_was_made_ready(place: Place) -> None:
    """Drained, made ready and drained again: the time begins anew."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    spared, drained = (place.server(name) for name in ("s0", "s1"))
    for server in (spared, drained):
        place.set_drain(server, True)
    place.set_drain(spared, False)
    place.loop.until(lambda: ended(clients["s1"]) == "rst")
    assert (ended(clients["s0"]), drained.counts.cuts, spared.counts.cuts) == ("open", {"drained": 1}, {})
    _, _, name = place.linked()
    assert name == "s0"


def test_a_server_that_checks_find_down_is_cut_at_once_unless_its_connections_are_to_be_kept(place: Place) -> None:
    """on_down: close, or keep."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    down = CheckResult(State.DOWN, "port closed", "refused")
    place.proxy.backend.observe(place.server("s0"), down, 1.0)
    place.loop.until(lambda: ended(clients["s0"]) == "rst")
    place.go_over(on_down="keep")
    place.proxy.backend.observe(place.server("s1"), down, 2.0)
    place.loop.settle()
    assert ended(clients["s1"]) == "open"
    assert [each.state for each in place.proxy.view(0.0).servers] == ["down", "down"]


def test_a_dead_servers_connections_are_cut_once_there_is_a_better_place(place: Place) -> None:
    """Of all servers gone one may be back before the other; until then a client is no better off without its own."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    backend = place.proxy.backend
    backend.observe(place.server("s1"), TrafficResult("refused"), 1.0)
    backend.observe(place.server("s0"), CheckResult(State.DOWN, "port closed", "refused"), 2.0)
    place.later(9)
    assert ended(clients["s0"]) == "open"
    backend.observe(place.server("s1"), TrafficResult(), 3.0)
    place.later(11)
    assert (ended(clients["s0"]), ended(clients["s1"])) == ("rst", "open")
    assert place.server("s0").counts.cuts == {"server_down": 1}


def test_nothing_is_cut_when_who_turns_elsewhere_finds_that_nobody_is_up(place: Place) -> None:
    """A client that waits at the server that is down asks the other one at once, and the network knows no way there."""
    client, _, name = place.linked()
    here, other = place.server(name), place.server({"s0": "s1", "s1": "s0"}[name])
    place.go_over(first_byte_timeout=3.0)
    place.set_drain(other, True)
    place.connect()
    place.loop.until(lambda: here.counts.connections_total == 2)
    place.set_drain(other, False)
    other.endpoint = (socket.AF_INET, ("255.255.255.255", 9))
    place.proxy.backend.observe(here, CheckResult(State.DOWN, "port closed", "refused"), place.bench.poller.now)
    place.loop.settle()
    assert (ended(client), other.usable()) == ("open", False)


def test_a_server_that_drains_by_its_own_word_ends_its_connections_itself(place: Place) -> None:
    """A graceful stop may take longer than drain_timeout, which is for what the operator drains and removes."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    place.proxy.backend.observe(place.server("s0"), CheckResult(State.DRAINING, "[-]shutdown", "shutdown"), 1.0)
    assert [place.linked()[2] for _ in range(3)] == ["s1"] * 3
    place.later(place.settings.drain_timeout + GRACE + 2 * SPREAD)
    assert (ended(clients["s0"]), place.server("s0").counts.cuts) == ("open", {})


@pytest.mark.parametrize("found", [State.SICK, State.DOWN])
def test_what_checks_find_behind_a_suspicion_is_acted_upon(place: Place, found: State) -> None:
    """Clients have made the server look down before; nobody would be moved off it for that, and never again."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    place.proxy.backend.observe(place.server("s0"), TrafficResult("closed"), 1.0)
    place.proxy.backend.observe(place.server("s0"), CheckResult(found, "500", "http_500"), 2.0)
    place.later(GRACE + 2 * SPREAD)
    assert (ended(clients["s0"]), ended(clients["s1"])) == ("rst", "open")


def test_an_address_that_its_name_has_lost_for_good_drains(place: Place) -> None:
    """As a server that is removed: no new ones, drain_timeout for what is open. Until then nothing happens to it."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    group = place.proxy.backend.pool.find("s0")
    assert group
    elsewhere = place.server("s1").endpoint
    assert elsewhere
    place.proxy.backend.resolved(group, [elsewhere], MISSED - 1)
    place.later(2 * place.settings.drain_timeout)
    assert (ended(clients["s0"]), len(group.members)) == ("open", 2)
    place.proxy.backend.resolved(group, [elsewhere], MISSED)
    assert [server.endpoint for server in group.members] == [elsewhere]
    place.later(2 * place.settings.drain_timeout)
    assert (ended(clients["s0"]), ended(clients["s1"])) == ("rst", "open")


def test_a_server_that_only_clients_suspect_keeps_its_connections(place: Place) -> None:
    """What one client has met is no reason to cut those of others."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    place.proxy.backend.observe(place.server("s0"), TrafficResult("refused"), 1.0)
    assert [each.state for each in place.proxy.view(0.0).servers] == ["down", "up"]
    place.later(GRACE + SPREAD + 1)
    assert ended(clients["s0"]) == "open"


def test_a_sick_server_is_left_after_a_while_and_only_while_another_one_is_up(place: Place) -> None:
    """It still answers and may recover, and it may be the only one that answers at all."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    for name in ("s0", "s1"):
        place.proxy.backend.observe(place.server(name), CheckResult(State.SICK, "500", "http_500"), 1.0)
    place.later(GRACE + SPREAD + 1)
    assert [ended(client) for client in clients.values()] == ["open", "open"]
    place.proxy.backend.observe(place.server("s1"), CheckResult(State.UP, "ok", "ok"), 2.0)
    place.later(2 * GRACE)
    assert [ended(client) for client in clients.values()] == ["open", "open"], "the other one may be well soon, too"
    place.later(2 * GRACE + 3 * SPREAD)
    assert (ended(clients["s0"]), ended(clients["s1"])) == ("rst", "open")
    assert place.server("s0").counts.cuts == {"server_sick": 1}


def test_a_sick_server_that_recovers_in_time_keeps_its_connections(place: Place) -> None:
    """The eviction was planned, and its reason has gone."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    for now, state in ((1.0, State.SICK), (2.0, State.UP)):
        place.proxy.backend.observe(place.server("s0"), CheckResult(state, "500", "http_500"), now)
    place.later(GRACE + SPREAD + 1)
    assert ended(clients["s0"]) == "open"


def test_a_removed_server_is_cut_when_its_time_is_over_unless_it_is_back(place: Place) -> None:
    """With it come its connections, counted as its own again."""
    clients = {name: client for client, _, name in (place.linked(), place.linked())}
    first, _ = place.settings.servers
    place.go_over(servers=(ServerConfig(address=Address("127.0.0.1", 1)),))
    place.go_over(servers=(first,))
    assert place.server("s0").connections == 1
    place.loop.until(lambda: ended(clients["s1"]) == "rst")
    assert place.proxy.view(0.0).closed == {REMOVED: 1}
    assert ended(clients["s0"]) == "open"
    reset(clients["s0"])
    place.loop.until(lambda: place.server("s0").connections == 0)
