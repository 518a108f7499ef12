"""Rules of the metrics page."""

from __future__ import annotations

from dataclasses import fields, replace

from prometheus_client.parser import text_string_to_metric_families

from lbproxy.balance.histogram import CONNECT, FIRST_BYTE, LIFE, Histogram
from lbproxy.net import reasons
from lbproxy.net.reasons import REFUSED, RESET, TIMEOUT
from lbproxy.proxy.search import CLIENT_LEFT, NO_SERVER, UNREACHABLE
from lbproxy.proxy.sessions import CUTS, MAX_CONNECTIONS, SHUTDOWN
from lbproxy.relay.link import CLIENT_FIN, CLIENT_RST, ERROR, IDLE_TIMEOUT, SERVER_FIN, SERVER_RST, SERVER_TIMEOUT
from lbproxy.status.metrics import render
from lbproxy.status.snapshot import ProxyView, ReloadView, ServerView, Snapshot, Usage
from lbproxy.workers.totals import NO_FIGURES

P, S = {"proxy": "kube-apiserver"}, {"proxy": "kube-apiserver", "server": "m1"}


def server(name: str = "m1", state: str = "up") -> ServerView:
    """Return a server with a different figure in each place."""
    return ServerView(
        name=name,
        address="10.4.6.11:6443",
        state=state,
        reason="",
        since_seconds=1,
        weight=36,
        max_conns=37,
        backup=False,
        connections=21,
        connections_total=22,
        connect_failures={"refused": 23, "timeout": 24},
        bytes_in_total=25,
        bytes_out_total=26,
        connect_seconds=Histogram((1, 2, *(0,) * (len(CONNECT) - 2), 4), 30.5),
        first_byte_seconds=Histogram((0,) * len(FIRST_BYTE) + (1,), 9.5),
        checks={"ok": 27, "timeout": 28},
        checked_seconds_ago=2.0,
        check_took_seconds=38.5,
        certificate_expires=1.8e9,
        named=True,
        resolve_failures_total=46,
        resolved_seconds_ago=3.0,
        flips_total=29,
        replays_total=30,
        cuts={"down": 31},
    )


def snapshot(*servers: ServerView) -> Snapshot:
    """Return a process with one proxy in front of `servers`."""
    proxy = ProxyView(
        name="kube-apiserver",
        listen=("127.0.0.1:6443",),
        connections=11,
        connecting=47,
        connections_total=12,
        max_connections=35,
        rejected={"max_connections": 13},
        closed={"client_fin": 14, "idle_timeout": 15},
        lived_seconds=Histogram((3, *(0,) * len(LIFE)), 48.5),
        servers=servers,
    )
    config = ReloadView(file="f", last_success_timestamp=1.7e9, reloads={"success": 2})
    return Snapshot(
        version="1.2.3", form="compiled", python="3.11.2", pid=1, uptime_seconds=1, generation=1, config=config,
        loop_lag_seconds=0.5, proxies=(proxy,), task_failures={"check": 33, "watch": 0}, log_lines_dropped=34,
        usage=Usage(cpu_seconds=40.5, virtual_bytes=41, resident_bytes=42, open_fds=43, max_fds=44, started=1.6e9),
        taken_at=1.7e9, handed={"success": 49, "reset": 50}, kept=51,
    )  # fmt: skip


def series(state: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series of the page, as Prometheus' own parser reads it; none may appear twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families("".join(render(state))):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} appears twice"
            found[key] = sample.value
    return found


EXPECTED = [
    ("lbproxy_build_info", {"version": "1.2.3", "form": "compiled", "python": "3.11.2"}, 1),
    ("lbproxy_config_last_reload_successful", {}, 1),
    ("lbproxy_config_last_reload_success_timestamp_seconds", {}, 1.7e9),
    ("lbproxy_config_reloads_total", {"result": "success"}, 2),
    ("lbproxy_config_reloads_total", {"result": "failure"}, 0),
    ("lbproxy_connections", P, 11),
    ("lbproxy_connections_total", P, 12),
    ("lbproxy_connections_rejected_total", {**P, "reason": "max_connections"}, 13),
    ("lbproxy_connections_closed_total", {**P, "reason": "client_fin"}, 14),
    ("lbproxy_connections_closed_total", {**P, "reason": "idle_timeout"}, 15),
    ("lbproxy_server_up", S, 1),
    *(
        ("lbproxy_server_state", {**S, "state": state}, float(state == "up"))
        for state in ("up", "unchecked", "sick", "down", "draining", "disabled")
    ),
    ("lbproxy_server_connections", S, 21),
    ("lbproxy_server_connections_total", S, 22),
    ("lbproxy_server_connect_failures_total", {**S, "reason": "refused"}, 23),
    ("lbproxy_server_connect_failures_total", {**S, "reason": "timeout"}, 24),
    ("lbproxy_server_bytes_total", {**S, "direction": "in"}, 25),
    ("lbproxy_server_bytes_total", {**S, "direction": "out"}, 26),
    ("lbproxy_server_checks_total", {**S, "result": "ok"}, 27),
    ("lbproxy_server_checks_total", {**S, "result": "timeout"}, 28),
    ("lbproxy_server_flips_total", S, 29),
    ("lbproxy_server_replays_total", S, 30),
    ("lbproxy_server_cuts_total", {**S, "reason": "down"}, 31),
    ("lbproxy_loop_lag_seconds", {}, 0.5),
    ("lbproxy_task_failures_total", {"task": "check"}, 33),
    ("lbproxy_task_failures_total", {"task": "watch"}, 0),
    ("lbproxy_log_lines_dropped_total", {}, 34),
    ("lbproxy_connections_limit", P, 35),
    ("lbproxy_server_weight", S, 36),
    ("lbproxy_server_connections_limit", S, 37),
    ("lbproxy_server_state_since_timestamp_seconds", S, 1.7e9 - 1),
    ("lbproxy_server_check_duration_seconds", S, 38.5),
    ("lbproxy_server_last_check_timestamp_seconds", S, 1.7e9 - 2),
    ("lbproxy_server_certificate_expiry_timestamp_seconds", S, 1.8e9),
    ("lbproxy_resolve_failures_total", S, 46),
    ("lbproxy_resolve_last_success_timestamp_seconds", S, 1.7e9 - 3),
    ("lbproxy_connections_connecting", P, 47),
    ("lbproxy_handover_connections_total", {"result": "success"}, 49),
    ("lbproxy_handover_connections_total", {"result": "reset"}, 50),
    ("lbproxy_kept_connections", {}, 51),
    ("process_cpu_seconds_total", {}, 40.5),
    ("process_virtual_memory_bytes", {}, 41),
    ("process_resident_memory_bytes", {}, 42),
    ("process_open_fds", {}, 43),
    ("process_max_fds", {}, 44),
    ("process_start_time_seconds", {}, 1.6e9),
]


HISTOGRAMS = (
    "lbproxy_server_connect_seconds",
    "lbproxy_server_first_byte_seconds",
    "lbproxy_connection_duration_seconds",
)


def test_what_can_happen_is_there_before_it_has() -> None:
    """Prometheus sees no increase in a series that begins with its first event."""
    nothing = replace(server(), connect_failures={}, checks={}, cuts={})
    state = snapshot(nothing)
    state = replace(state, proxies=(replace(state.proxies[0], rejected={}, closed={}),))
    found = {(name, *dict(labels).values()) for (name, labels), value in series(state).items() if not value}
    for family, known in (
        ("lbproxy_connections_rejected_total", {MAX_CONNECTIONS, UNREACHABLE, NO_SERVER}),
        ("lbproxy_connections_closed_total", {*CUTS, SHUTDOWN, CLIENT_LEFT, CLIENT_FIN, SERVER_FIN, CLIENT_RST,
                                              SERVER_RST, SERVER_TIMEOUT, IDLE_TIMEOUT, ERROR}),
        ("lbproxy_server_cuts_total", set(CUTS)),
        ("lbproxy_server_connect_failures_total", {REFUSED, TIMEOUT, RESET, reasons.UNREACHABLE, "overtaken"}),
        ("lbproxy_server_checks_total", {"ok", TIMEOUT, REFUSED}),
    ):  # fmt: skip
        assert {label for name, *labels in found if name == family for label in labels} - set(S.values()) == known


def test_every_public_name_is_there_with_its_labels_and_nothing_else_is() -> None:
    """The page holds the contract's series, the histograms, what has not happened yet, and no more."""
    expected = {(name, frozenset(labels.items())): value for name, labels, value in EXPECTED}
    got = {
        key: value
        for key, value in series(snapshot(server())).items()
        if (value or key in expected) and not key[0].startswith(HISTOGRAMS)
    }
    assert got == expected


def test_histograms_are_cumulative_and_their_last_bucket_is_their_count() -> None:
    """A snapshot counts per bucket; Prometheus wants each bucket to hold the ones below it."""
    got = series(snapshot(server()))

    def bucket(name: str, le: str) -> float:
        return got[f"{name}_bucket", frozenset({**S, "le": le}.items())]

    labels = frozenset(S.items())
    connect = "lbproxy_server_connect_seconds"
    assert [bucket(connect, le) for le in ("0.00025", "0.0005", "0.001", "2.048", "+Inf")] == [1, 3, 3, 3, 7]
    assert (got[f"{connect}_count", labels], got[f"{connect}_sum", labels]) == (7, 30.5)
    first_byte = "lbproxy_server_first_byte_seconds"
    assert [bucket(first_byte, le) for le in ("8.192", "+Inf")] == [0, 1]
    assert (got[f"{first_byte}_count", labels], got[f"{first_byte}_sum", labels]) == (1, 9.5)


def test_every_figure_is_on_the_page() -> None:
    """There is nothing else to count for; each is another number here."""
    (proxy,) = snapshot(server()).proxies
    shown = set(series(snapshot(server())).values())
    for view in (proxy, *proxy.servers):
        for name in {field.name for field in fields(view)} - NO_FIGURES:
            figure = getattr(view, name)
            if isinstance(figure, Histogram):
                figure = figure.total_seconds
            assert set(figure.values() if isinstance(figure, dict) else [figure]) <= shown, name


def test_a_server_is_up_only_in_the_state_up() -> None:
    """A draining or sick server takes no new connections, so it does not count as up."""
    for state in ("unchecked", "sick", "down", "draining", "disabled"):
        got = series(snapshot(server(state=state)))
        assert got["lbproxy_server_up", frozenset(S.items())] == 0
        assert got["lbproxy_server_state", frozenset({**S, "state": state}.items())] == 1


def test_series_of_a_removed_server_are_gone() -> None:
    """One scrape leaves nothing behind for the next."""
    assert any(("server", "m2") in labels for _, labels in series(snapshot(server(), server("m2"))))
    assert not any(("server", "m2") in labels for _, labels in series(snapshot(server())))


def test_a_failed_reload_shows() -> None:
    """The gauge that alerts are made of goes to 0."""
    state = snapshot()
    failed = replace(state, config=replace(state.config, last_reload_successful=False))
    assert series(failed)["lbproxy_config_last_reload_successful", frozenset()] == 0


def test_every_family_says_what_it_is() -> None:
    """Each family has a help text and a type, and its name carries the prefix."""
    families = list(text_string_to_metric_families("".join(render(snapshot(server())))))
    assert all(f.documentation and f.type in ("gauge", "counter", "histogram") for f in families)
    assert all(f.name.startswith(("lbproxy_", "process_")) for f in families)


def test_only_a_host_name_has_figures_of_look_ups_and_only_who_shows_a_certificate_has_its_end() -> None:
    """Three series less for each of the servers that are addresses, which nearly all are."""
    plain = replace(server(), named=False, resolved_seconds_ago=None, certificate_expires=None)
    assert not [name for name, _ in series(snapshot(plain)) if "resolve" in name or "certificate" in name]
