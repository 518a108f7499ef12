"""Clients that mean no good, by the thousand: others are served, memory is bounded, all is given back."""

from __future__ import annotations

import urllib.request
from typing import NamedTuple

import pytest

from bench.attackers import Attack
from tests.support.clients import flood
from tests.support.daemon import Daemon, one_proxy
from tests.support.ports import free_port
from tests.support.servers import Echo, Source
from tests.support.streams import Streams
from tests.support.wait import until

KIB = 1024
SPARE = 32 + 4
"""Descriptors of pipes that are kept for later, and what comes and goes."""
SLACK = 4 << 20
"""Bytes that a process grows by whatever it does."""


class Row(NamedTuple):
    """How many of a kind, and how many bytes each may cost (of who come and go: nothing but the slack)."""

    kind: str
    count: int
    each: int


HELD = 3 * KIB
"""For a connection, whose client has at most said a little; it is a third of that."""
BLOCKED = 68 * KIB
"""For one whose client takes no more: what was read of the server's and fits nowhere, 64 KiB."""
IN_KERNEL = 512 * KIB
"""Bytes that it was sent by then: 256 KiB and the last write. Left to itself the kernel would have taken 1.8 MB."""
TABLE = [
    Row("silent", 2000, HELD),
    Row("drip", 2000, HELD),
    Row("half", 2000, HELD),
    Row("garbage", 200, BLOCKED),
    Row("rst", 500, 0),
    Row("flood", 500, 0),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind)
def test_whoever_comes_with_them_is_served(row: Row) -> None:
    """Open streams lose nothing, every new client is answered, and each of the others costs what it may."""
    with Echo("one") as server, Daemon(one_proxy([server])) as daemon:
        flood(daemon.port, 100)
        before, rest = daemon.sockets(), daemon.rss()
        with Streams(daemon.port, 5) as streams:
            with Attack(row.kind, row.count, daemon.port) as attack:
                assert attack.connected or not row.each
                assert flood(daemon.port, 200, at_once=8).errors == []
                assert daemon.status()
                assert daemon.rss() < rest + row.count * row.each + SLACK
            assert streams.finish() == []
        until(lambda: not daemon.conns(), "no connection is left")
        until(lambda: daemon.sockets() <= before, "all is given back")


@pytest.mark.timeout(60)
def test_who_never_reads_holds_so_many_bytes_and_no_more() -> None:
    """Not all pipes, nor all memory, nor the kernel's: some hold a pipe, others what was read, no server is read on."""
    with Source() as server, Echo("one") as other:
        bulk, small = one_proxy([server]), one_proxy([other])
        config = {"proxies": {"bulk": bulk["proxies"]["p"], "small": small["proxies"]["p"]}}
        port = int(config["proxies"]["small"]["listen"][0].rpartition(":")[2])
        with Daemon(config, nofile=512) as daemon:
            flood(port, 100)
            before, fds, rest = daemon.sockets(), daemon.fds(), daemon.rss()
            with Streams(port, 5) as streams:
                with Attack("deaf", 100, daemon.port):
                    until(lambda: len(daemon.conns()) == 105)
                    assert flood(port, 200, at_once=8).errors == []
                    until(lambda: rests(daemon), "nothing moves any more", 20)
                    assert daemon.rss() < rest + 100 * BLOCKED + SLACK
                    assert max(conn["bytes_out"] for conn in daemon.conns() if conn["proxy"] == "bulk") < IN_KERNEL
                    assert flood(port, 200, at_once=8).errors == []
                assert streams.finish() == []
            until(lambda: not daemon.conns(), "no connection is left")
            until(lambda: daemon.sockets() <= before and daemon.fds() <= fds + SPARE, "all is given back")


def rests(daemon: Daemon) -> bool:
    """Whether those who never read get nothing any more."""

    def moved() -> int:
        return sum(conn["bytes_out"] for conn in daemon.conns() if conn["proxy"] == "bulk")

    return moved() == moved()


@pytest.mark.timeout(60)
def test_when_they_have_taken_every_descriptor_who_is_in_stays_in_and_who_waits_is_served_later() -> None:
    """More than there are places, and the rest in the backlog: streams and commands go on, and it comes to an end."""
    with Echo("one") as server, Daemon(one_proxy([server]), nofile=300) as daemon:
        flood(daemon.port, 20)
        with Streams(daemon.port, 5) as streams:
            with Attack("silent", 1000, daemon.port):
                until(lambda: "out of file descriptors" in daemon.log, "nobody is let in any more")
                moved = streams.bytes
                until(lambda: streams.bytes > moved, "streams go on")
                assert len(daemon.conns()) < 150
                assert daemon.status()
            assert flood(daemon.port, 100).errors == []
            assert streams.finish() == []
        until(lambda: not daemon.conns(), "no connection is left")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["silent", "drip", "garbage", "flood", "half"])
def test_who_asks_properly_is_answered_beside_them(kind: str) -> None:
    """A probe that fails has a node restart what is well, and an operator without an answer cannot help it."""
    admin = free_port()
    with Echo("one") as server, Daemon({**one_proxy([server]), "admin": {"listen": f"127.0.0.1:{admin}"}}) as daemon:
        before, rest = daemon.sockets(), daemon.rss()
        with Attack(kind, 200, admin, "request"), Attack(kind, 100, daemon.control, "command"):
            for _ in range(20):
                with urllib.request.urlopen(f"http://127.0.0.1:{admin}/livez", timeout=10) as answer:
                    assert answer.read() == b"ok\n"
                assert daemon.status()
            assert daemon.rss() < rest + SLACK
            assert flood(daemon.port, 100).errors == []
        until(lambda: daemon.sockets() <= before, "all is given back")
