"""Families of series in Prometheus' text format, written by its own library.

They come in pieces of whole lines, since the loop that makes them moves bytes too: with 400 servers a page has 20,000
lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, islice
from typing import Final, TypeVar

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from lbproxy.balance.histogram import Histogram

_PIECE: Final = 10
"""Series, or histograms, in a piece: a millisecond or two of the library's time."""

T = TypeVar("T")
Labels = Mapping[str, str]
Rows = Iterable[tuple[Labels, float]]
"""The labels and the value, per series."""


def labelled(**values: str) -> Labels:
    """Return labels."""
    return values


def by(label: str, counts: Mapping[str, float], labels: Labels | None = None) -> Rows:
    """Return a series for each entry of `counts`, told apart by `label`."""
    return (({**(labels or {}), label: key}, count) for key, count in counts.items())


def gauge(name: str, text: str, rows: Rows) -> Iterator[str]:
    """Yield a family of gauges."""
    return _family(lambda labels: GaugeMetricFamily(name, text, labels=labels), rows)


def counter(name: str, text: str, rows: Rows) -> Iterator[str]:
    """Yield a family of counters."""
    return _family(lambda labels: CounterMetricFamily(name, text, labels=labels), rows)


def _family(make: Callable[[list[str]], GaugeMetricFamily | CounterMetricFamily], rows: Rows) -> Iterator[str]:
    for first, piece in _pieces(rows):
        family = make(_names(piece))
        for labels, value in piece:
            family.add_metric(tuple(labels.values()), float(value))
        yield _written(family, first)


def histogram(name: str, text: str, bounds: Iterable[float], rows: Iterable[tuple[Labels, Histogram]]) -> Iterator[str]:
    """Yield a family of histograms, whose buckets have these upper bounds."""
    les = (*map(floatToGoString, bounds), "+Inf")
    for first, piece in _pieces(rows):
        family = HistogramMetricFamily(name, text, labels=_names(piece))
        for labels, each in piece:
            buckets = list(zip(les, accumulate(each.counts), strict=True))
            family.add_metric(tuple(labels.values()), buckets, each.total_seconds)
        yield _written(family, first)


def _pieces(rows: Iterable[tuple[Labels, T]]) -> Iterator[tuple[bool, list[tuple[Labels, T]]]]:
    """Yield `rows` a few at a time, and whether these are the first; without any, nothing once."""
    left = iter(rows)
    first = True
    while (piece := list(islice(left, _PIECE))) or first:
        yield first, piece
        first = False


def _names(piece: list[tuple[Labels, T]]) -> list[str]:
    return list(piece[0][0]) if piece else []


class _One(Collector):
    """What the library asks for the one family that it is to write."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _written(family: Metric, first: bool) -> str:
    """Return the lines of a family, or, unless it is its first piece, those of its series alone."""
    text = generate_latest(_One(family)).decode()
    return text if first else text.split("\n", 2)[2]
