"""What the process that leads finds out the workers act on, and what they find out it knows."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.clients import flood
from tests.support.daemon import Daemon, one_proxy
from tests.support.named import Named
from tests.support.servers import Echo
from tests.support.streams import Streams
from tests.support.wait import until


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Run two servers of one port on two addresses."""
    with ExitStack() as stack:
        first = stack.enter_context(Echo("one", "127.0.0.11"))
        yield [first, stack.enter_context(Echo("two", "127.0.0.12", first.port))]


def two(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration for two workers."""
    return {**config, "workers": 2, "watch": False}


def test_a_new_address_of_a_name_reaches_the_workers(echoes: list[Echo]) -> None:
    """The one that fails is looked up again by who leads; those that dial are told where it is now."""
    one, _ = echoes
    with Named(two(one_proxy([f"master1.test:{one.port}"])), {"127.0.0.11": "master1.test"}) as daemon:
        assert flood(daemon.port, 10).answers == {"one": 10}
        daemon.write({"127.0.0.12": "master1.test"})
        one.stop()
        until(lambda: "two" in flood(daemon.port, 1).answers, "the new address is used")
        until(lambda: flood(daemon.port, 10).answers == {"two": 10}, "by both")


def test_a_name_that_is_known_at_last_is_known_to_the_workers(echoes: list[Echo]) -> None:
    """A client that found no server has it looked up, and that is told, though nobody has checked anything."""
    named = f"later.test:{echoes[0].port}"
    with Named(two(one_proxy([named])), {"127.0.0.1": "localhost"}) as daemon:
        until(lambda: "cannot look up later.test" in daemon.log)
        daemon.write({"127.0.0.11": "later.test"})
        assert flood(daemon.port, 1).errors
        until(lambda: daemon.servers()[named]["state"] == "up", "it is known")
        until(lambda: flood(daemon.port, 1).answers == {"one": 1}, "the workers know it")


@pytest.mark.parametrize("how", ["KILL", "STOP"])
def test_no_counter_falls_while_a_worker_hangs_dies_and_is_replaced(echoes: list[Echo], how: str) -> None:
    """What it had counted is shown all the time; its streams go on, but for those it had a byte of in its hands."""
    with Daemon(two(one_proxy(echoes))) as daemon, Streams(daemon.port, 20) as streams:
        until(lambda: all(worker["connections"] > 2 for worker in daemon.status()["workers"]), "both carry some")
        until(lambda: all(conn["age_seconds"] > 3.5 for conn in daemon.conns()), "they are kept")
        struck = daemon.status()["workers"][0]["pid"]
        seen = [counters(daemon)]
        os.kill(struck, getattr(signal, f"SIG{how}"))

        def replaced() -> bool:
            seen.append(counters(daemon))
            assert all(now >= before for now, before in zip(seen[-1], seen[-2], strict=True)), seen[-2:]
            status = daemon.status()
            return bool(status["workers_replaced"]) and len(status["workers"]) == 2

        until(replaced, "it is replaced", 20)
        until(lambda: counters(daemon)[1] > seen[-1][1], "the streams go on")
        broken = streams.finish()
        torn = re.findall(r"go on with another one, (\d+) are reset", daemon.log)
        assert (len(broken), [line for line in broken if "what came back" in line]) == (int(torn[0]), [])
        assert replaced()
        total, moved, _ = counters(daemon)
        assert total == 20
        assert broken or moved <= streams.bytes  # what was counted since it was last asked is lost, and nothing doubled


def counters(daemon: Daemon) -> tuple[int, int, int]:
    """Return the connections so far, and the bytes of both ways."""
    (proxy,) = daemon.status()["proxies"].values()
    servers = proxy["servers"].values()
    ways = [sum(server[f"bytes_{way}_total"] for server in servers) for way in ("in", "out")]
    return proxy["connections_total"], ways[0], ways[1]
