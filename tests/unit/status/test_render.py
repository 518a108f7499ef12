"""Rules of the JSON that a snapshot becomes."""

from __future__ import annotations

import json
import subprocess
import sys

from lbproxy.status.render import conn_json
from lbproxy.status.shapes import ConfigStatus, Connection, ProxyStatus, ServerStatus, Status
from tests.unit.status.values import CONNECTION, server, status


def test_status_json_has_the_public_shape_with_its_keys_in_order() -> None:
    """Every key of the contract is there, in its order; further keys come after them."""
    one = server(
        "10.4.6.11:6443",
        connections=1,
        connections_total=5,
        connect_failures={"refused": 2, "timeout": 1},
        bytes_in_total=7,
        bytes_out_total=8,
    )
    got = status(one)
    assert list(got) == ["version", "form", "python", "pid", "uptime_seconds", "generation", "config", "proxies",
                         "task_failures", "log_lines_dropped", "host", "workers", "workers_replaced"]  # fmt: skip
    assert list(got["config"].items()) == [
        ("file", "/etc/lbproxy/lbproxy.yaml"),
        ("last_reload_successful", True),
        ("last_reload_error", None),
    ]
    proxy = got["proxies"]["kube-apiserver"]
    assert list(proxy) == ["listen", "connections", "connections_total", "servers"]
    assert proxy["listen"] == ["127.0.0.1:6443", "[::1]:6443"]
    expected = {
        "address": "10.4.6.11:6443",
        "state": "up",
        "reason": "200 from /readyz",
        "since_seconds": 1.0,
        "weight": 1,
        "backup": False,
        "connections": 1,
        "connections_total": 5,
        "connect_failures_total": 3,
        "bytes_in_total": 7,
        "bytes_out_total": 8,
    }
    assert list(proxy["servers"]["10.4.6.11:6443"].items())[: len(expected)] == list(expected.items())


def test_every_form_has_all_its_keys_in_order() -> None:
    """What `shapes` promises to programs is what they get, no key less and none more."""
    got = status(server("a"))
    proxy = got["proxies"]["kube-apiserver"]
    made = [
        (Status, got),
        (ConfigStatus, got["config"]),
        (ProxyStatus, proxy),
        (ServerStatus, proxy["servers"]["a"]),
        (Connection, conn_json(CONNECTION)),
    ]
    for form, value in made:
        assert list(value) == list(form.__annotations__), form.__name__


def test_status_json_survives_json() -> None:
    """The values are JSON's own, so that what the CLI gets is what the daemon rendered."""
    got = status(server("a"), last_reload_successful=False, last_reload_error="no")
    assert json.loads(json.dumps(got)) == got


def test_conns_json_has_the_public_shape_with_its_keys_in_order() -> None:
    """A connection has exactly the contract's keys."""
    assert [list(conn_json(CONNECTION).items())] == [
        [
            ("proxy", "kube-apiserver"),
            ("server", "m1"),
            ("client", "127.0.0.1:40000"),
            ("age_seconds", 3700.0),
            ("idle_seconds", 0.25),
            ("bytes_in", 512),
            ("bytes_out", 3 * 1024**2),
        ]
    ]


def test_rendering_imports_nothing_heavy() -> None:
    """The CLI starts fast: neither rendering nor asking brings in the daemon's libraries."""
    code = (
        "import sys, lbproxy.status.render, lbproxy.status.commands; "
        "print(sorted({'asyncio', 'uvloop', 'h11', 'prometheus_client', 'yaml', 'html'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
