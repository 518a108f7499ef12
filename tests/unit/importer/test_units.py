"""Times in the notation of each program."""

from __future__ import annotations

import pytest

from lbproxy.importer.units import haproxy_time, nginx_time, whole


@pytest.mark.parametrize(
    ("text", "time"),
    [("60", "1m"), ("10m", "10m"), ("1h 30m", "90m"), ("1h30m", "90m"), ("250ms", "250ms"), ("1d", "24h"),
     ("1w", "168h"), ("1M", "720h"), ("1y", "8760h"), ("0", "0"), ("1x", "1x"), ("", ""), ("-5s", "-5s")],
)  # fmt: skip
def test_nginx_means_seconds(text: str, time: str) -> None:
    """A month has 30 days and a capital letter; what is no time stays what it is."""
    assert nginx_time(text) == time


def test_digits_without_end_are_no_time() -> None:
    """And that is found at once: each way to cut sixty digits into numbers was tried, and nobody saw the end of it."""
    text = "1" * 60 + "x"
    assert nginx_time(text) == text


@pytest.mark.parametrize(
    ("text", "time"),
    [("5000", "5s"), ("250", "250ms"), ("15s", "15s"), ("2m", "2m"), ("1d", "24h"), ("500us", "0.0005s"), ("0", "0"),
     ("1m30s", "1m30s"), ("1w", "1w"), ("x", "x")],
)  # fmt: skip
def test_haproxy_means_milliseconds(text: str, time: str) -> None:
    """A bare 5000 is five seconds."""
    assert haproxy_time(text) == time


def test_a_number_loses_its_leading_zeros() -> None:
    """Which YAML would take for octal."""
    assert [whole("007"), whole("0"), whole("-1"), whole("x")] == ["7", "0", "-1", "x"]
