"""The bench on which everything that moves bytes is tried; and no example of a rule is too slow to hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.relay.hand import Bench

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Make a bench and clear it away."""
    bench = Bench()
    yield bench
    bench.close()
