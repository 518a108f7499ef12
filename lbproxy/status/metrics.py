"""A snapshot in Prometheus' text format (exposition format 0.0.4).

Nothing is kept between two scrapes: every series is made from the snapshot at hand, so those of a removed server are
gone with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lbproxy.balance.histogram import CONNECT, FIRST_BYTE, LIFE
from lbproxy.balance.state import State
from lbproxy.status.exposition import Labels, by, counter, gauge, histogram, labelled
from lbproxy.status.snapshot import ProxyView, ServerView, Snapshot, Usage

# Not the library's CONTENT_TYPE_LATEST: what 1.0.0 adds is names that need quoting, and some agents know 0.0.4 alone.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Series that are there from the start: an increase from nothing would not be one. Others come as they happen.
_REJECTED: Final = dict.fromkeys(("max_connections", "unreachable", "no_server"), 0)
_CLOSED: Final = dict.fromkeys(
    ("client_fin", "server_fin", "client_rst", "server_rst", "server_timeout", "idle_timeout", "client_left",
     "server_down", "server_sick", "drained", "removed", "rebalance", "shutdown", "error"), 0,
)  # fmt: skip
_CUTS: Final = dict.fromkeys(("server_down", "server_sick", "drained", "removed", "rebalance"), 0)
_FAILURES: Final = dict.fromkeys(("refused", "timeout", "reset", "unreachable", "overtaken"), 0)
_CHECKS: Final = dict.fromkeys(("ok", "timeout", "refused"), 0)

Servers = list[tuple[Labels, ServerView]]
"""All servers, each with its labels."""


def render(snapshot: Snapshot) -> Iterator[str]:
    """Yield the page for `/metrics`, whole lines at a time."""
    yield from _configuration(snapshot)
    yield from _itself(snapshot)
    if snapshot.usage is not None:
        yield from _machine(snapshot.usage)
    yield from _proxies([(labelled(proxy=proxy.name), proxy) for proxy in snapshot.proxies])
    servers = [
        (labelled(proxy=proxy.name, server=server.name), server)
        for proxy in snapshot.proxies
        for server in proxy.servers
    ]
    yield from _states(servers, snapshot.taken_at)
    yield from _names(servers, snapshot.taken_at)
    yield from _traffic(servers)
    yield from _failures(servers)


def _configuration(snapshot: Snapshot) -> Iterator[str]:
    config = snapshot.config
    # Both results from the start, so that the first failure is an increase and not a new series
    reloads = {"success": 0, "failure": 0, **config.reloads}
    yield from gauge(
        "lbproxy_build_info",
        "1; the labels say which version runs, compiled or plain, and by which Python.",
        [(labelled(version=snapshot.version, form=snapshot.form, python=snapshot.python), 1)],
    )
    yield from gauge(
        "lbproxy_config_last_reload_successful",
        "1 if the last attempt to reload was applied, else 0.",
        [({}, int(config.last_reload_successful))],
    )
    yield from gauge(
        "lbproxy_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was applied.",
        [({}, config.last_success_timestamp)],
    )
    yield from counter("lbproxy_config_reloads_total", "Attempts to reload.", by("result", reloads))


def _itself(snapshot: Snapshot) -> Iterator[str]:
    yield from gauge(
        "lbproxy_loop_lag_seconds",
        "How late the event loop woke up, at worst, of late.",
        [({}, snapshot.loop_lag_seconds)],
    )
    yield from counter(
        "lbproxy_task_failures_total",
        "Errors of lbproxy's own in what must run for ever.",
        by("task", snapshot.task_failures),
    )
    yield from counter(
        "lbproxy_worker_restarts_total",
        "Workers that had died or hung, and were replaced.",
        [({}, snapshot.workers_replaced)],
    )
    yield from counter(
        "lbproxy_log_lines_dropped_total",
        "Lines of the log that nobody read in time.",
        [({}, snapshot.log_lines_dropped)],
    )
    yield from counter(
        "lbproxy_handover_connections_total",
        "Connections of the process before this one: those that go on here, and those that were reset.",
        by("result", {"success": 0, "reset": 0, **snapshot.handed}),
    )
    yield from gauge(
        "lbproxy_kept_connections",
        "Open connections that a next process would find, should this one be killed.",
        [({}, snapshot.kept)],
    )


def _machine(usage: Usage) -> Iterator[str]:
    """Yield what every Prometheus client tells of its process, under the names that are usual."""
    yield from counter("process_cpu_seconds_total", "CPU time, user and system.", [({}, usage.cpu_seconds)])
    yield from gauge("process_virtual_memory_bytes", "Virtual memory.", [({}, usage.virtual_bytes)])
    yield from gauge("process_resident_memory_bytes", "Resident memory.", [({}, usage.resident_bytes)])
    yield from gauge("process_start_time_seconds", "When it was started.", [({}, usage.started)])
    yield from gauge("process_open_fds", "File descriptors that are open.", [({}, usage.open_fds)])
    yield from gauge("process_max_fds", "File descriptors that may be.", [({}, usage.max_fds)])


def _proxies(proxies: list[tuple[Labels, ProxyView]]) -> Iterator[str]:
    yield from gauge(
        "lbproxy_connections", "Client connections open now.", ((labels, p.connections) for labels, p in proxies)
    )
    yield from gauge(
        "lbproxy_connections_connecting",
        "Client connections open now that no server has been reached for yet.",
        ((labels, p.connecting) for labels, p in proxies),
    )
    yield from gauge(
        "lbproxy_connections_limit",
        "Client connections that may be open (max_connections); 0 if only descriptors limit them.",
        ((labels, p.max_connections) for labels, p in proxies),
    )
    yield from counter(
        "lbproxy_connections_total",
        "Client connections accepted.",
        ((labels, p.connections_total) for labels, p in proxies),
    )
    yield from counter(
        "lbproxy_connections_rejected_total",
        "Client connections that were not served.",
        (row for labels, p in proxies for row in by("reason", {**_REJECTED, **p.rejected}, labels)),
    )
    yield from counter(
        "lbproxy_connections_closed_total",
        "All other client connections that have ended.",
        (row for labels, p in proxies for row in by("reason", {**_CLOSED, **p.closed}, labels)),
    )
    yield from histogram(
        "lbproxy_connection_duration_seconds",
        "How long client connections that have ended were open, over restarts too.",
        LIFE,
        ((labels, p.lived_seconds) for labels, p in proxies),
    )


def _states(servers: Servers, now: float) -> Iterator[str]:
    """Yield the families that tell how the servers are."""
    yield from gauge(
        "lbproxy_server_up", "1 if the server is up, else 0.", ((labels, s.state == State.UP) for labels, s in servers)
    )
    yield from gauge(
        "lbproxy_server_state",
        "1 for the state the server is in, 0 for the others.",
        (row for labels, s in servers for row in by("state", {each: each == s.state for each in State}, labels)),
    )
    yield from gauge(
        "lbproxy_server_state_since_timestamp_seconds",
        "Since when the server is in its state.",
        ((labels, now - s.since_seconds) for labels, s in servers),
    )
    yield from counter(
        "lbproxy_server_flips_total",
        "Changes of the server's state.",
        ((labels, s.flips_total) for labels, s in servers),
    )
    yield from gauge(
        "lbproxy_server_check_duration_seconds",
        "How long the last health check took.",
        ((labels, s.check_took_seconds) for labels, s in servers if s.check_took_seconds is not None),
    )
    yield from gauge(
        "lbproxy_server_last_check_timestamp_seconds",
        "When the last health check had its answer.",
        ((labels, now - s.checked_seconds_ago) for labels, s in servers if s.checked_seconds_ago is not None),
    )
    yield from counter(
        "lbproxy_server_checks_total",
        "Active health checks.",
        (row for labels, s in servers for row in by("result", {**_CHECKS, **s.checks}, labels)),
    )
    yield from gauge(
        "lbproxy_server_certificate_expiry_timestamp_seconds",
        "When the certificate ends that the server shows to tls and https checks.",
        ((labels, s.certificate_expires) for labels, s in servers if s.certificate_expires is not None),
    )


def _names(servers: Servers, now: float) -> Iterator[str]:
    """Yield those of servers that are host names."""
    yield from counter(
        "lbproxy_resolve_failures_total",
        "Look-ups of the server's host name that failed.",
        ((labels, s.resolve_failures_total) for labels, s in servers if s.named),
    )
    yield from gauge(
        "lbproxy_resolve_last_success_timestamp_seconds",
        "When the server's host name was last found.",
        ((labels, now - s.resolved_seconds_ago) for labels, s in servers if s.resolved_seconds_ago is not None),
    )


def _traffic(servers: Servers) -> Iterator[str]:
    """Yield those that tell what goes to the servers."""
    yield from gauge(
        "lbproxy_server_connections",
        "Connections to the server open now.",
        ((labels, s.connections) for labels, s in servers),
    )
    yield from gauge(
        "lbproxy_server_connections_limit",
        "Connections that the server may have (max_conns); 0 if nothing limits them.",
        ((labels, s.max_conns) for labels, s in servers),
    )
    yield from gauge("lbproxy_server_weight", "The server's weight.", ((labels, s.weight) for labels, s in servers))
    yield from counter(
        "lbproxy_server_connections_total",
        "Connections made to the server.",
        ((labels, s.connections_total) for labels, s in servers),
    )
    yield from histogram(
        "lbproxy_server_connect_seconds",
        "How long a connect took.",
        CONNECT,
        ((labels, s.connect_seconds) for labels, s in servers),
    )
    yield from histogram(
        "lbproxy_server_first_byte_seconds",
        "From the client's first flight to the server's first byte.",
        FIRST_BYTE,
        ((labels, s.first_byte_seconds) for labels, s in servers),
    )
    yield from counter(
        "lbproxy_server_bytes_total",
        "Bytes relayed; in is client to server.",
        (
            row
            for labels, s in servers
            for row in by("direction", {"in": s.bytes_in_total, "out": s.bytes_out_total}, labels)
        ),
    )


def _failures(servers: Servers) -> Iterator[str]:
    """Yield those that tell what goes wrong with the servers, and what is done about it."""
    yield from counter(
        "lbproxy_server_connect_failures_total",
        "Attempts to connect that failed.",
        (row for labels, s in servers for row in by("reason", {**_FAILURES, **s.connect_failures}, labels)),
    )
    yield from counter(
        "lbproxy_server_replays_total",
        "First flights sent to another server because this one was silent.",
        ((labels, s.replays_total) for labels, s in servers),
    )
    yield from counter(
        "lbproxy_server_cuts_total",
        "Connections to the server closed by lbproxy's own decision.",
        (row for labels, s in servers for row in by("reason", {**_CUTS, **s.cuts}, labels)),
    )
