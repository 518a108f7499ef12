"""The place where a proxy is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.place import Place
from tests.unit.relay.hand import Bench


@pytest.fixture
def place() -> Iterator[Place]:
    """Make a place and clear it away."""
    bench = Bench()
    place = Place(bench)
    yield place
    place.proxy.sessions.close("shutdown")
    place.proxy.close_listener(place.address)
    assert place.limit.open == 0
    bench.close()
