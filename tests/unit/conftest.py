"""The bench on which everything that moves bytes is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.relay.hand import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Make a bench and clear it away."""
    bench = Bench()
    yield bench
    bench.close()
