"""Until the server's first byte: a TLS client is served by another server, and nothing else is ever sent twice."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lbproxy.proxy.clienthello import Hello, classify
from tests.support import daemon as daemons
from tests.support.certs import Certs
from tests.support.clients import connect, flood, receive_all
from tests.support.daemon import Daemon
from tests.support.servers import Echo, Hung, Resetting, Server, Sink, reset
from tests.support.wait import until


def one_proxy(servers: Any, **settings: Any) -> dict[str, Any]:
    """Return the usual configuration, its file not watched: that would cost half a second at each stop."""
    return {**daemons.one_proxy(servers, **settings), "watch": False}


class Closing(Server):
    """Accepts, reads a little, and closes as if nothing were wrong."""

    async def serve(self, reader: Any, writer: Any) -> None:
        """Read once."""
        await reader.read(1)


BAD = {"hung": Hung, "reset at once": Resetting, "reset": lambda: Resetting(after_data=True), "closed": Closing}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Close what a test opens."""
    with ExitStack() as stack:
        yield stack


def behind(bad: Any, good: Any, **settings: Any) -> Daemon:
    """Return a daemon that prefers `bad`."""
    servers = [bad.address, {"address": good.address, "backup": True}]
    return Daemon(one_proxy(servers, **{"fail_timeout": "200ms", "first_byte_timeout": "200ms", **settings}))


def hello(early_data: bool) -> bytes:
    """Return a whole ClientHello, with the extension that announces early data or without."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    body = bytearray(outgoing.read()[9:])
    if early_data:
        at = 34
        at += 1 + body[at]
        at += 2 + int.from_bytes(body[at : at + 2], "big")
        at += 1 + body[at]
        length = int.from_bytes(body[at : at + 2], "big") + 4
        body[at : at + 2] = length.to_bytes(2, "big")
        body[at + 2 : at + 2] = b"\0\x2a\0\0"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake


@pytest.mark.parametrize("how", BAD)
def test_a_bad_server_costs_no_tls_client(stack: ExitStack, certs: Certs, how: str) -> None:
    """It is found out again and again, and no client is the worse for it."""
    bad = stack.enter_context(BAD[how]())
    good = stack.enter_context(Echo("good", tls=certs.server_context()))
    daemon = stack.enter_context(behind(bad, good))
    tally = flood(daemon.port, 100, at_once=8, tls=certs.client_context())
    assert (tally.answers, tally.errors) == ({"good": 100}, [])
    first = daemon.servers()[bad.address]
    assert first["connect_failures_total"] >= 1
    assert first["connections"] == 0


def test_a_session_that_was_moved_carries_on_to_its_end(stack: ExitStack, certs: Certs) -> None:
    """Megabytes over TLS, after the first server had stayed silent."""
    bad = stack.enter_context(Hung())
    good = stack.enter_context(Echo(tls=certs.server_context()))
    daemon = stack.enter_context(behind(bad, good))
    client = stack.enter_context(
        certs.client_context().wrap_socket(connect(daemon.port), server_hostname="localhost")
    )  # fmt: skip
    for size in (1, 10_000, 60_000):
        client.sendall(b"x" * size)
        got = 0
        while got < size:
            got += len(client.recv(1 << 16))
        assert got == size
    assert [conn["server"] for conn in daemon.conns()] == [good.address]


def test_waiting_clients_move_on_when_a_check_finds_their_server_down(stack: ExitStack, certs: Certs) -> None:
    """Long before their own timeout, and without being closed."""
    bad = stack.enter_context(Hung())
    good = stack.enter_context(Echo("good", tls=certs.server_context()))
    health = {"type": "tls", "interval": "300ms", "timeout": "200ms"}
    daemon = stack.enter_context(behind(bad, good, first_byte_timeout="60s", health=health))
    tally = flood(daemon.port, 20, tls=certs.client_context())
    assert (tally.answers, tally.errors) == ({"good": 20}, [])


@pytest.mark.parametrize(
    "said", [b"POST / HTTP/1.1\r\n\r\n", hello(early_data=True), hello(early_data=False) + b"\x17\x03\x03\0\x04abcd"],
    ids=["plain", "early data announced", "data behind it"],
)  # fmt: skip
@pytest.mark.parametrize("first_byte", ["0", "3s"])
def test_what_might_take_effect_twice_is_never_sent_twice(stack: ExitStack, said: bytes, first_byte: str) -> None:
    """The first server may have acted on it before it broke the connection; the client is told by a reset."""
    assert classify(said) is Hello.OTHER
    bad = stack.enter_context(Resetting(after_data=True))
    good = stack.enter_context(Sink())
    daemon = stack.enter_context(behind(bad, good, first_byte_timeout=first_byte, fail_timeout="60s"))
    client = stack.enter_context(connect(daemon.port))
    client.sendall(said)
    with pytest.raises(ConnectionResetError):
        receive_all(client)
    assert (bad.accepted, good.accepted) == (1, 0)
    until(lambda: daemon.servers()[bad.address]["state"] == "down", "it is remembered")


def test_the_whole_hello_arrives_at_the_other_server(stack: ExitStack) -> None:
    """To the byte, and once."""
    said = hello(early_data=False)
    assert classify(said) is Hello.COMPLETE
    bad = stack.enter_context(Hung())
    good = stack.enter_context(Sink())
    daemon = stack.enter_context(behind(bad, good))
    client = stack.enter_context(connect(daemon.port))
    client.sendall(said[:100])
    client.sendall(said[100:])
    until(lambda: good.accepted, "the other server is asked")
    client.sendall(b"and more")
    client.shutdown(1)
    assert receive_all(client).decode() == f"{len(said) + 8} {hashlib.sha256(said + b'and more').hexdigest()}\n"


def test_with_0_a_silent_server_is_waited_for(stack: ExitStack) -> None:
    """The feature is off: what was said to one server is not said to another."""
    bad = stack.enter_context(Hung())
    good = stack.enter_context(Sink())
    daemon = stack.enter_context(behind(bad, good, first_byte_timeout="0", idle_timeout="500ms"))
    client = stack.enter_context(connect(daemon.port))
    client.sendall(hello(early_data=False))
    with pytest.raises(ConnectionResetError):
        receive_all(client)
    assert good.accepted == 0


def test_a_reload_that_switches_it_off_leaves_waiting_clients_waiting(stack: ExitStack) -> None:
    """Nothing spins for a time that will never come."""
    bad = stack.enter_context(Hung())
    daemon = stack.enter_context(Daemon(one_proxy([bad], first_byte_timeout="60s")))
    client = stack.enter_context(connect(daemon.port))
    client.sendall(hello(early_data=False))
    until(lambda: [conn["bytes_in"] for conn in daemon.conns()] != [0] and daemon.conns(), "it was said")
    config = daemon.config
    config["proxies"]["p"]["first_byte_timeout"] = 0
    daemon.reload(config)
    used = daemon.cpu_seconds()
    client.settimeout(0.5)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert daemon.cpu_seconds() - used < 0.25
    reset(client)
