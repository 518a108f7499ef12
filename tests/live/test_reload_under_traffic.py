"""Reloads while connections are open and others come: none is broken, none fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.support.clients import flood
from tests.support.daemon import Daemon, one_proxy
from tests.support.etcd import Etcd, Watch, etcdctl
from tests.support.servers import Echo
from tests.support.streams import Streams
from tests.support.wait import until

NAMES = {"one", "two", "three"}


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Run three servers that say their name and echo."""
    with ExitStack() as stack:
        yield [stack.enter_context(Echo(name)) for name in ("one", "two", "three")]


def without(config: dict[str, Any], *servers: str) -> dict[str, Any]:
    """Return the configuration without these servers."""
    p = config["proxies"]["p"]
    return {**config, "proxies": {"p": {**p, "servers": [each for each in p["servers"] if each not in servers]}}}


@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_reloads_break_no_stream_and_fail_no_connect(echoes: list[Echo], workers: int) -> None:
    """The third server goes in and out, by `lbproxy reload`, with streams on it that are hashed at both ends."""
    whole = {**one_proxy(echoes), "workers": workers, "watch": False}
    less = without(whole, echoes[2].address)
    with Daemon(whole) as daemon, Streams(daemon.port, 50) as streams, ThreadPoolExecutor(1) as pool:
        assert echoes[2].open >= 14
        traffic = pool.submit(flood, daemon.port, 400, per_second=100)
        for n in range(20):
            daemon.rewrite(whole if n % 2 else less)
            done = daemon.cli("reload")
            assert (done.returncode, done.stderr) == (0, "")
            assert f"server {echoes[2].address} {'added' if n % 2 else 'removed'}" in done.stdout
        tally = traffic.result()
        assert streams.finish() == []
        assert (tally.errors, set(tally.answers) <= NAMES) == ([], True)
        assert streams.bytes > 50 * 1024


def test_reloads_that_replace_every_server_break_no_stream_and_fail_no_connect(echoes: list[Echo]) -> None:
    """There is no moment without a server: who is being connected just then turns to the new ones."""
    one, two, three = (echo.address for echo in echoes)
    whole = {**one_proxy(echoes), "watch": False}
    with Daemon(whole) as daemon, Streams(daemon.port, 10) as streams, ThreadPoolExecutor(1) as pool:
        traffic = pool.submit(flood, daemon.port, 1000, per_second=500)
        for n in range(60):
            daemon.reload(without(whole, one) if n % 2 else without(whole, two, three))
        tally = traffic.result()
        assert streams.finish() == []
        assert tally.errors == []


def test_an_etcd_watch_lives_through_fifty_reloads() -> None:
    """The watch's member stays, another goes in and out, and every value that is put meanwhile is seen."""
    with Etcd() as etcd, ThreadPoolExecutor(1) as pool:
        whole = {**one_proxy(etcd.members, drain_timeout="100ms"), "watch": False}
        with Daemon(whole) as daemon:
            address = f"127.0.0.1:{daemon.port}"
            with Watch(address, "key") as watch:
                until(lambda: etcdctl(address, "put", "key", "first") and watch.saw("first"), "the watch has begun")
                until(lambda: len(daemon.conns()) == 1, "only the watch is connected")
                (conn,) = daemon.conns()
                other = next(m.address for m in etcd.members if m.address != conn["server"])
                traffic = pool.submit(_put, address, 8)
                for n in range(50):
                    daemon.reload(whole if n % 2 else without(whole, other))
                for value in traffic.result():
                    until(partial(watch.saw, value), f"the watch sees {value}")
                assert conn["client"] in {each["client"] for each in daemon.conns()}


def _put(address: str, count: int) -> list[str]:
    """Put `count` values and return them."""
    values = [f"value {n}" for n in range(count)]
    for value in values:
        etcdctl(address, "put", "key", value)
    return values
