"""A snapshot in Prometheus' text format (exposition format 0.0.4).

Nothing is kept between two scrapes: every series is made from the snapshot at hand, so those of a removed server are
gone with it. It is yielded in pieces, since the loop that makes it moves bytes too: with 400 servers it has 20,000
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

from lbproxy.balance.histogram import BUCKETS, Histogram
from lbproxy.balance.state import State
from lbproxy.status.snapshot import ProxyView, ServerView, Snapshot, Usage

# Not the library's CONTENT_TYPE_LATEST: what 1.0.0 adds is names that need quoting, and some agents know 0.0.4 alone.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS: Final = (*map(floatToGoString, BUCKETS), "+Inf")
_PIECE: Final = 10
"""Series, or histograms, in a piece: a millisecond or two of the library's time."""

# Series that are there from the start: an increase from nothing would not be one. Others come as they happen.
_REJECTED: Final = dict.fromkeys(("max_connections", "unreachable", "no_server"), 0)
_CLOSED: Final = dict.fromkeys(
    ("client_fin", "server_fin", "client_rst", "server_rst", "server_timeout", "idle_timeout", "client_left",
     "server_down", "server_sick", "drained", "removed", "rebalance", "shutdown", "error"), 0,
)  # fmt: skip
_CUTS: Final = dict.fromkeys(("server_down", "server_sick", "drained", "removed", "rebalance"), 0)
_FAILURES: Final = dict.fromkeys(("refused", "timeout", "reset", "unreachable", "overtaken"), 0)
_CHECKS: Final = dict.fromkeys(("ok", "timeout", "refused"), 0)

T = TypeVar("T")
Labels = Mapping[str, str]
Rows = Iterable[tuple[Labels, float]]
"""The labels and the value, per series."""
Servers = list[tuple[Labels, ServerView]]
"""All servers, each with its labels."""


def render(snapshot: Snapshot) -> Iterator[str]:
    """Yield the page for `/metrics`, whole lines at a time."""
    yield from _process(snapshot)
    if snapshot.usage is not None:
        yield from _machine(snapshot.usage)
    yield from _proxies([(_labels(proxy=proxy.name), proxy) for proxy in snapshot.proxies])
    servers = [
        (_labels(proxy=proxy.name, server=server.name), server)
        for proxy in snapshot.proxies
        for server in proxy.servers
    ]
    yield from _states(servers, snapshot.taken_at)
    yield from _traffic(servers)
    yield from _failures(servers)


def _process(snapshot: Snapshot) -> Iterator[str]:
    config = snapshot.config
    # Both results from the start, so that the first failure is an increase and not a new series
    reloads = {"success": 0, "failure": 0, **config.reloads}
    yield from _gauge(
        "lbproxy_build_info",
        "1; the labels say which version runs, compiled or plain, and by which Python.",
        [(_labels(version=snapshot.version, form=snapshot.form, python=snapshot.python), 1)],
    )
    yield from _gauge(
        "lbproxy_config_last_reload_successful",
        "1 if the last attempt to reload was applied, else 0.",
        [({}, int(config.last_reload_successful))],
    )
    yield from _gauge(
        "lbproxy_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was applied.",
        [({}, config.last_success_timestamp)],
    )
    yield from _counter("lbproxy_config_reloads_total", "Attempts to reload.", _by("result", reloads))
    yield from _gauge(
        "lbproxy_loop_lag_seconds",
        "How late the event loop woke up, at worst, of late.",
        [({}, snapshot.loop_lag_seconds)],
    )
    yield from _counter(
        "lbproxy_task_failures_total",
        "Errors of lbproxy's own in what must run for ever.",
        _by("task", snapshot.task_failures),
    )
    yield from _counter(
        "lbproxy_log_lines_dropped_total",
        "Lines of the log that nobody read in time.",
        [({}, snapshot.log_lines_dropped)],
    )


def _machine(usage: Usage) -> Iterator[str]:
    """Yield what every Prometheus client tells of its process, under the names that are usual."""
    yield from _counter("process_cpu_seconds_total", "CPU time, user and system.", [({}, usage.cpu_seconds)])
    yield from _gauge("process_virtual_memory_bytes", "Virtual memory.", [({}, usage.virtual_bytes)])
    yield from _gauge("process_resident_memory_bytes", "Resident memory.", [({}, usage.resident_bytes)])
    yield from _gauge("process_start_time_seconds", "When it was started.", [({}, usage.started)])
    yield from _gauge("process_open_fds", "File descriptors that are open.", [({}, usage.open_fds)])
    yield from _gauge("process_max_fds", "File descriptors that may be.", [({}, usage.max_fds)])


def _proxies(proxies: list[tuple[Labels, ProxyView]]) -> Iterator[str]:
    yield from _gauge(
        "lbproxy_connections", "Client connections open now.", ((labels, p.connections) for labels, p in proxies)
    )
    yield from _gauge(
        "lbproxy_connections_limit",
        "Client connections that may be open (max_connections); 0 if only descriptors limit them.",
        ((labels, p.max_connections) for labels, p in proxies),
    )
    yield from _counter(
        "lbproxy_connections_total",
        "Client connections accepted.",
        ((labels, p.connections_total) for labels, p in proxies),
    )
    yield from _counter(
        "lbproxy_connections_rejected_total",
        "Client connections that were not served.",
        (row for labels, p in proxies for row in _by("reason", {**_REJECTED, **p.rejected}, labels)),
    )
    yield from _counter(
        "lbproxy_connections_closed_total",
        "All other client connections that have ended.",
        (row for labels, p in proxies for row in _by("reason", {**_CLOSED, **p.closed}, labels)),
    )


def _states(servers: Servers, now: float) -> Iterator[str]:
    """Yield the families that tell how the servers are."""
    yield from _gauge(
        "lbproxy_server_up", "1 if the server is up, else 0.", ((labels, s.state == State.UP) for labels, s in servers)
    )
    yield from _gauge(
        "lbproxy_server_state",
        "1 for the state the server is in, 0 for the others.",
        (row for labels, s in servers for row in _by("state", {each: each == s.state for each in State}, labels)),
    )
    yield from _gauge(
        "lbproxy_server_state_since_timestamp_seconds",
        "Since when the server is in its state.",
        ((labels, now - s.since_seconds) for labels, s in servers),
    )
    yield from _counter(
        "lbproxy_server_flips_total",
        "Changes of the server's state.",
        ((labels, s.flips_total) for labels, s in servers),
    )
    yield from _gauge(
        "lbproxy_server_check_duration_seconds",
        "How long the last health check took.",
        ((labels, s.check_took_seconds) for labels, s in servers if s.check_took_seconds is not None),
    )
    yield from _gauge(
        "lbproxy_server_last_check_timestamp_seconds",
        "When the last health check had its answer.",
        ((labels, now - s.checked_seconds_ago) for labels, s in servers if s.checked_seconds_ago is not None),
    )
    yield from _counter(
        "lbproxy_server_checks_total",
        "Active health checks.",
        (row for labels, s in servers for row in _by("result", {**_CHECKS, **s.checks}, labels)),
    )


def _traffic(servers: Servers) -> Iterator[str]:
    """Yield those that tell what goes to the servers."""
    yield from _gauge(
        "lbproxy_server_connections",
        "Connections to the server open now.",
        ((labels, s.connections) for labels, s in servers),
    )
    yield from _gauge(
        "lbproxy_server_connections_limit",
        "Connections that the server may have (max_conns); 0 if nothing limits them.",
        ((labels, s.max_conns) for labels, s in servers),
    )
    yield from _gauge("lbproxy_server_weight", "The server's weight.", ((labels, s.weight) for labels, s in servers))
    yield from _counter(
        "lbproxy_server_connections_total",
        "Connections made to the server.",
        ((labels, s.connections_total) for labels, s in servers),
    )
    yield from _histogram(
        "lbproxy_server_connect_seconds",
        "How long a connect took.",
        ((labels, s.connect_seconds) for labels, s in servers),
    )
    yield from _histogram(
        "lbproxy_server_first_byte_seconds",
        "From the client's first flight to the server's first byte.",
        ((labels, s.first_byte_seconds) for labels, s in servers),
    )
    yield from _counter(
        "lbproxy_server_bytes_total",
        "Bytes relayed; in is client to server.",
        (
            row
            for labels, s in servers
            for row in _by("direction", {"in": s.bytes_in_total, "out": s.bytes_out_total}, labels)
        ),
    )


def _failures(servers: Servers) -> Iterator[str]:
    """Yield those that tell what goes wrong with the servers, and what is done about it."""
    yield from _counter(
        "lbproxy_server_connect_failures_total",
        "Attempts to connect that failed.",
        (row for labels, s in servers for row in _by("reason", {**_FAILURES, **s.connect_failures}, labels)),
    )
    yield from _counter(
        "lbproxy_server_replays_total",
        "First flights sent to another server because this one was silent.",
        ((labels, s.replays_total) for labels, s in servers),
    )
    yield from _counter(
        "lbproxy_server_cuts_total",
        "Connections to the server closed by lbproxy's own decision.",
        (row for labels, s in servers for row in _by("reason", {**_CUTS, **s.cuts}, labels)),
    )


def _labels(**values: str) -> Labels:
    return values


def _by(label: str, counts: Mapping[str, float], labels: Labels | None = None) -> Rows:
    """Return a series for each entry of `counts`, told apart by `label`."""
    return (({**(labels or {}), label: key}, count) for key, count in counts.items())


def _gauge(name: str, text: str, rows: Rows) -> Iterator[str]:
    return _family(lambda labels: GaugeMetricFamily(name, text, labels=labels), rows)


def _counter(name: str, text: str, rows: Rows) -> Iterator[str]:
    return _family(lambda labels: CounterMetricFamily(name, text, labels=labels), rows)


def _family(make: Callable[[list[str]], GaugeMetricFamily | CounterMetricFamily], rows: Rows) -> Iterator[str]:
    for first, piece in _pieces(rows):
        family = make(_names(piece))
        for labels, value in piece:
            family.add_metric(tuple(labels.values()), float(value))
        yield _written(family, first)


def _histogram(name: str, text: str, rows: Iterable[tuple[Labels, Histogram]]) -> Iterator[str]:
    for first, piece in _pieces(rows):
        family = HistogramMetricFamily(name, text, labels=_names(piece))
        for labels, each in piece:
            buckets = list(zip(_BOUNDS, accumulate(each.counts), strict=True))
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
