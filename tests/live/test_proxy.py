"""One proxy at work: its servers, its listeners, and new settings."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from lbproxy.balance.pool import Pool
from lbproxy.config.model import Address, HealthConfig, ServerConfig
from lbproxy.proxy.proxy import Proxy
from tests.live.place import Place
from tests.support.servers import reset


def test_who_is_being_connected_when_the_servers_are_replaced_gets_a_new_one(place: Place) -> None:
    """The attempt at the old one is given up, and the client does not notice."""
    host, port = place.bench.silent_port()
    place.go_over(servers=(ServerConfig(address=Address(host, port)),), connect_timeout=30.0, connect_deadline=60.0)
    place.connect()
    (session,) = place.proxy.sessions
    assert session.link is None
    place.go_over(servers=(ServerConfig(address=Address(*place.behind[0].getsockname()), name="s0"),))
    place.loop.until(lambda: session.link)
    assert session.server is place.server("s0")


def test_each_server_is_looked_after_for_as_long_as_it_is_configured(place: Place) -> None:
    """One that stays keeps what looks after it, and checks anew only when what the settings say of checks differs."""
    s0, s1 = place.settings.servers
    place.go_over(servers=(s0, replace(s1, down=True)), max_fails=7)
    assert place.told() == [("s0", []), ("s1", ["check"])]
    place.go_over(health=HealthConfig(type="tcp"), servers=(replace(s1, down=True), replace(s0, name="s2")))
    assert place.told() == [("s0", ["stop"]), ("s1", ["check", "check"]), ("s2", [])]
    place.proxy.leave()
    assert place.told() == [("s0", ["stop"]), ("s1", ["check", "check", "stop"]), ("s2", ["stop"])]


@pytest.mark.parametrize("tries", range(1, 4))
def test_what_a_bug_has_left_undone_is_done_by_the_next_call(place: Place, tries: int) -> None:
    """The same file once more is what an operator tries first; it must not find that there is nothing to do."""
    s0, s1 = place.settings.servers
    wanted = {"health": HealthConfig(type="tcp"), "servers": (replace(s0, down=True), replace(s1, name="s2"))}
    faults = iter(range(1, tries))

    def bug() -> None:
        if next(faults, None):
            raise RuntimeError("a bug")

    place.hinder = bug
    for _ in range(1, tries):
        with pytest.raises(RuntimeError, match="a bug"):
            place.go_over(**wanted)
    place.go_over(**wanted)
    told = dict(place.told())
    assert (told["s0"][-1:], told["s1"][-1:], told["s2"]) == (["check"], ["stop"], [])
    assert [server.name for server in place.proxy.backend.pool.servers] == ["s0", "s2"]


def test_a_listener_that_goes_over_to_another_proxy_brings_its_clients_there(place: Place) -> None:
    """The socket is never closed."""
    settings = replace(place.settings, listen=())
    other = Proxy("q", settings, Pool(settings, "n", 0.0), place.shared)
    other.adopt(place.address, place.proxy.take_listener(place.address))
    client = place.bench.keep(socket.create_connection((place.address.host, place.address.port)))
    place.loop.until(lambda: len(other.sessions))
    assert (other.view(0.0).listen, place.proxy.view(0.0).listen) == ((str(place.address),), ())
    reset(client)  # an end of file would be passed on to a server that never answers
    place.loop.until(lambda: not len(other.sessions))
    place.proxy.adopt(place.address, other.take_listener(place.address))
