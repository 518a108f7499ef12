"""What the process that leads finds out the workers act on, and what they find out it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.clients import flood
from tests.support.daemon import one_proxy
from tests.support.named import Named
from tests.support.servers import Echo
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
