"""Something of ours runs out: it says nothing of the servers."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from pathlib import Path

from tests.support.clients import receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import Namespace
from tests.support.servers import Echo
from tests.support.wait import until

PORTS = 4


def test_local_ports_that_are_used_up_are_held_against_no_server() -> None:
    """Neither by clients nor by checks: all servers would be down at once, and /readyz 503, on a node that is busy."""
    need("netns", "ip")
    with ExitStack() as stack:
        ns = stack.enter_context(closing(Namespace()))
        with ns.inside():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"20000 {20000 + PORTS - 1}")
        server = stack.enter_context(Echo("one", ns=ns))
        health = {"type": "tcp", "interval": "200ms"}
        config = one_proxy([server], health=health, connect_timeout="500ms", connect_deadline="500ms")
        daemon = stack.enter_context(Daemon(config, ns=ns))

        def client() -> socket.socket:
            """Connect from an address of its own, which has as many ports of its own."""
            count = len(clients) + 2
            with ns.inside():
                sock = socket.create_connection(("127.0.0.1", daemon.port), 20, (f"127.0.0.{count}", 0))
            clients.append(stack.enter_context(sock))
            return sock

        clients: list[socket.socket] = []
        until(lambda: daemon.servers()[server.address]["state"] == "up")

        def served() -> bool:
            try:
                return receive_line(client()) == "one"
            except ConnectionResetError:
                return False

        while served() or "cannot assign requested address" not in daemon.log.lower():
            pass
        seen = daemon.servers()[server.address]
        assert (seen["state"], seen["connect_failures_total"], set(seen["checks"])) == ("up", 0, {"ok"})
        for each in clients[:2]:
            each.close()
        until(served, "there are ports again")
