"""A snapshot in Prometheus' text format.

Nothing is kept between two scrapes: every series is made from the snapshot at hand, so those of a removed server are
gone with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from lbproxy.balance.histogram import BUCKETS, Histogram
from lbproxy.balance.state import State
from lbproxy.status.snapshot import ProxyView, ServerView, Snapshot

# Not the library's CONTENT_TYPE_LATEST: what 1.0.0 adds is names that need quoting, and some agents know 0.0.4 alone.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS = (*map(floatToGoString, BUCKETS), "+Inf")

Rows = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the value, per series."""
Servers = list[tuple[tuple[str, str], ServerView]]
"""All servers, each with the values of the labels in `_SERVER`."""
_SERVER = "proxy server"


def render(snapshot: Snapshot) -> tuple[bytes, str]:
    """Return the page for `/metrics` and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return generate_latest(registry), CONTENT_TYPE


class _Collector(Collector):
    """The metric families of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from _process(self._snapshot)
        yield from _proxies(self._snapshot.proxies)
        servers = [((proxy.name, server.name), server) for proxy in self._snapshot.proxies for server in proxy.servers]
        for families in (_states, _traffic, _failures):
            yield from families(servers)


def _process(snapshot: Snapshot) -> Iterator[Metric]:
    config = snapshot.config
    # Both results from the start, so that the first failure is an increase and not a new series
    reloads = {"success": 0, "failure": 0, **config.reloads}
    yield _gauge("lbproxy_build_info", "1; the label says which version runs.", "version", [((snapshot.version,), 1)])
    yield _gauge(
        "lbproxy_config_last_reload_successful",
        "1 if the last attempt to reload was applied, else 0.",
        "",
        [((), config.last_reload_successful)],
    )
    yield _gauge(
        "lbproxy_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was applied.",
        "",
        [((), config.last_success_timestamp)],
    )
    yield _counter("lbproxy_config_reloads_total", "Attempts to reload.", "result", _by(reloads.items()))
    yield _gauge(
        "lbproxy_loop_lag_seconds",
        "How late the event loop woke up, at worst, of late.",
        "",
        [((), snapshot.loop_lag_seconds)],
    )


def _proxies(proxies: tuple[ProxyView, ...]) -> Iterator[Metric]:
    yield _gauge(
        "lbproxy_connections", "Client connections open now.", "proxy", (((p.name,), p.connections) for p in proxies)
    )
    yield _counter(
        "lbproxy_connections_total",
        "Client connections accepted.",
        "proxy",
        (((p.name,), p.connections_total) for p in proxies),
    )
    yield _counter(
        "lbproxy_connections_rejected_total",
        "Client connections that were not served.",
        "proxy reason",
        (row for p in proxies for row in _by(p.rejected.items(), p.name)),
    )
    yield _counter(
        "lbproxy_connections_closed_total",
        "All other client connections that have ended.",
        "proxy reason",
        (row for p in proxies for row in _by(p.closed.items(), p.name)),
    )


def _states(servers: Servers) -> Iterator[Metric]:
    """Yield the families that tell how the servers are."""
    yield _gauge(
        "lbproxy_server_up",
        "1 if the server is up, else 0.",
        _SERVER,
        ((labels, s.state == State.UP) for labels, s in servers),
    )
    yield _gauge(
        "lbproxy_server_state",
        "1 for the state the server is in, 0 for the others.",
        f"{_SERVER} state",
        (((*labels, state), s.state == state) for labels, s in servers for state in State),
    )
    yield _counter(
        "lbproxy_server_flips_total",
        "Changes of the server's state.",
        _SERVER,
        ((labels, s.flips_total) for labels, s in servers),
    )
    yield _counter(
        "lbproxy_server_checks_total",
        "Active health checks.",
        f"{_SERVER} result",
        (row for labels, s in servers for row in _by(s.checks.items(), *labels)),
    )


def _traffic(servers: Servers) -> Iterator[Metric]:
    """Yield those that tell what goes to the servers."""
    yield _gauge(
        "lbproxy_server_connections",
        "Connections to the server open now.",
        _SERVER,
        ((labels, s.connections) for labels, s in servers),
    )
    yield _counter(
        "lbproxy_server_connections_total",
        "Connections made to the server.",
        _SERVER,
        ((labels, s.connections_total) for labels, s in servers),
    )
    yield _histogram(
        "lbproxy_server_connect_seconds",
        "How long a connect took.",
        ((labels, s.connect_seconds) for labels, s in servers),
    )
    yield _histogram(
        "lbproxy_server_first_byte_seconds",
        "From the client's first flight to the server's first byte.",
        ((labels, s.first_byte_seconds) for labels, s in servers),
    )
    yield _counter(
        "lbproxy_server_bytes_total",
        "Bytes relayed; in is client to server.",
        f"{_SERVER} direction",
        (row for labels, s in servers for row in _by((("in", s.bytes_in_total), ("out", s.bytes_out_total)), *labels)),
    )


def _failures(servers: Servers) -> Iterator[Metric]:
    """Yield those that tell what goes wrong with the servers, and what is done about it."""
    yield _counter(
        "lbproxy_server_connect_failures_total",
        "Attempts to connect that failed.",
        f"{_SERVER} reason",
        (row for labels, s in servers for row in _by(s.connect_failures.items(), *labels)),
    )
    yield _counter(
        "lbproxy_server_replays_total",
        "First flights sent to another server because this one was silent.",
        _SERVER,
        ((labels, s.replays_total) for labels, s in servers),
    )
    yield _counter(
        "lbproxy_server_cuts_total",
        "Connections to the server closed by lbproxy's own decision.",
        f"{_SERVER} reason",
        (row for labels, s in servers for row in _by(s.cuts.items(), *labels)),
    )


def _by(counts: Iterable[tuple[str, int]], *labels: str) -> Rows:
    return (((*labels, key), count) for key, count in counts)


def _gauge(name: str, text: str, labels: str, rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels.split())
    for values, value in rows:
        family.add_metric(values, float(value))
    return family


def _counter(name: str, text: str, labels: str, rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels.split())
    for values, value in rows:
        family.add_metric(values, float(value))
    return family


def _histogram(name: str, text: str, rows: Iterable[tuple[tuple[str, str], Histogram]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=["proxy", "server"])
    for values, histogram in rows:
        cumulative = accumulate(histogram.counts)
        family.add_metric(values, list(zip(_BOUNDS, cumulative, strict=True)), histogram.total_seconds)
    return family
