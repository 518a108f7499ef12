"""Waiting for conditions, never for a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FACTOR = float(os.environ.get("LBPROXY_TEST_TIMEOUT_FACTOR", "1"))
"""Every timeout of the tests is multiplied by this, for slow machines."""


def until(probe: Callable[[], T], what: str = "", timeout: float = 10.0) -> T:
    """Ask `probe` until its answer is true and return that; fail with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout * FACTOR
    while not (answer := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout * FACTOR:g} s: {what or probe}; last answer {answer!r}")
        time.sleep(0.01)
    return answer
