"""One proxy at work: its servers, its listeners, and new settings."""

from __future__ import annotations

import socket
from dataclasses import replace

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
