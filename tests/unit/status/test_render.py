"""Rules of the forms that a snapshot takes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any, cast

import pytest

from lbproxy.balance.histogram import BUCKETS, Histogram
from lbproxy.status.render import conn_json, conns_text, status_json, status_page, status_text
from lbproxy.status.shapes import ConfigStatus, Connection, ProxyStatus, ServerStatus, Status
from lbproxy.status.snapshot import ConnectionView, ProxyView, ReloadView, ServerView, Snapshot

NOTHING = Histogram((0,) * (len(BUCKETS) + 1), 0.0)


def server(name: str, **fields: Any) -> ServerView:
    """Return a server that is up and has done nothing, but for `fields`."""
    values: dict[str, Any] = {
        "name": name,
        "address": name,
        "state": "up",
        "reason": "200 from /readyz",
        "since_seconds": 1.0,
        "weight": 1,
        "backup": False,
        "connections": 0,
        "connections_total": 0,
        "connect_failures": {},
        "bytes_in_total": 0,
        "bytes_out_total": 0,
        "connect_seconds": NOTHING,
        "first_byte_seconds": NOTHING,
        "checks": {},
        "flips_total": 0,
        "replays_total": 0,
        "cuts": {},
    }
    return ServerView(**{**values, **fields})


def status(*servers: ServerView, **config: Any) -> Status:
    """Return the JSON form of a process with one proxy in front of `servers`."""
    return status_json(snapshot(*servers, **config))


def snapshot(*servers: ServerView, **config: Any) -> Snapshot:
    """Return a process with one proxy in front of `servers`."""
    proxy = ProxyView(
        name="kube-apiserver",
        listen=("127.0.0.1:6443", "[::1]:6443"),
        connections=2,
        connections_total=9,
        rejected={},
        closed={},
        servers=servers,
    )
    return Snapshot(
        version="1.2.3",
        form="compiled",
        python="3.11.2",
        pid=812,
        uptime_seconds=93784.25,
        generation=3,
        loop_lag_seconds=0.001,
        config=ReloadView(file="/etc/lbproxy/lbproxy.yaml", **config),
        proxies=(proxy,),
    )


CONNECTION = ConnectionView(
    proxy="kube-apiserver",
    server="m1",
    client="127.0.0.1:40000",
    age_seconds=3700.0,
    idle_seconds=0.25,
    bytes_in=512,
    bytes_out=3 * 1024**2,
)


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
                         "task_failures", "log_lines_dropped"]  # fmt: skip
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


def test_status_text_answers_what_runs_where_and_why_a_server_is_not_used() -> None:
    """The process is identified, a proxy says how many servers are up, and a server's line has all its columns."""
    m3 = server(
        "m3",
        address="master3.example:6443",
        state="down",
        reason="connection refused",
        since_seconds=250,
        weight=2,
        backup=True,
        connections=1,
        connections_total=1234,
        connect_failures={"refused": 4},
        bytes_in_total=1536,
        bytes_out_total=5 * 1024**3,
    )
    first, blank, proxy, heads, up, down = status_text(status(server("10.4.6.11:6443"), m3)).splitlines()
    assert first == (
        "lbproxy 1.2.3 (compiled, Python 3.11.2), pid 812, up 1d 2h, generation 3, "
        "configuration /etc/lbproxy/lbproxy.yaml"
    )
    assert blank == ""
    assert proxy == (
        "kube-apiserver on 127.0.0.1:6443, [::1]:6443: 1 of 2 servers up, 2 connections open, 9 since start"
    )
    assert heads.split() == ["SERVER", "STATE", "FOR", "WEIGHT", "CONNS", "TOTAL", "FAILURES", "IN", "OUT", "REASON"]
    assert [cell.strip() for cell in up.split("  ") if cell] == [
        "10.4.6.11:6443",
        "up",
        "1.0s",
        "1",
        "0",
        "0",
        "0",
        "0 B",
        "0 B",
        "200 from /readyz",
    ]
    assert [cell.strip() for cell in down.split("  ") if cell] == [
        "m3 (master3.example:6443) backup",
        "down",
        "4m 10s",
        "2",
        "1",
        "1234",
        "4",
        "1.5 KiB",
        "5.0 GiB",
        "connection refused",
    ]


def test_status_text_columns_are_aligned() -> None:
    """The last column begins at the same place in each line of a table."""
    text = status_text(status(server("a", reason="REASON"), server("a-long-name", weight=1000, reason="REASON")))
    assert len({line.index("REASON") for line in text.splitlines()[3:]}) == 1


def test_status_text_says_that_no_server_is_up() -> None:
    """A proxy with nothing behind it must catch the eye."""
    assert "NO SERVER UP OF 2" in status_text(status(server("a", state="down"), server("b", state="sick")))


def test_a_server_that_is_unchecked_is_not_up_and_no_reason_for_alarm() -> None:
    """It may be used; right after a start that is how all servers are."""
    fresh = status(server("a", state="unchecked"), server("b", state="unchecked"))
    assert ": 0 of 2 servers up, 2 unchecked, " in status_text(fresh)
    assert 'class="alarm"' not in "".join(status_page(fresh))
    assert ": 1 of 2 servers up, 1 unchecked, " in status_text(status(server("a"), server("b", state="unchecked")))


def test_status_text_shows_every_reason_of_a_failed_reload_before_the_table() -> None:
    """What is wrong with the file stands right under the first line, and what runs instead."""
    failed = status(server("a"), last_reload_successful=False, last_reload_error="f:1: x: bad\nf:2: y: bad")
    assert status_text(failed).splitlines()[1:4] == [
        "LAST RELOAD FAILED, generation 3 stays in force:",
        "  f:1: x: bad",
        "  f:2: y: bad",
    ]
    assert "LAST RELOAD" not in status_text(status(server("a")))


def test_errors_of_its_own_and_lost_lines_of_the_log_stand_before_the_table() -> None:
    """Nobody looks for them; a daemon of an older version says nothing of them, and that is no reason to fail."""
    state = replace(snapshot(server("a")), task_failures={"check": 2, "keep": 0, "watch": 1}, log_lines_dropped=7)
    found = status_json(state)
    alarms = [
        "ERRORS OF LBPROXY'S OWN SINCE ITS START, the log tells them: check 2, watch 1",
        "7 lines of the log were dropped since nobody read them in time",
    ]
    assert status_text(found).splitlines()[1:3] == alarms
    assert "check 2, watch 1" in "".join(status_page(found))
    assert "OWN" not in status_text(status_json(replace(state, task_failures={"check": 0})))
    older = {key: value for key, value in found.items() if key not in ("task_failures", "log_lines_dropped")}
    assert status_text(cast("Status", older)).splitlines()[1] == ""


def test_text_has_no_control_characters() -> None:
    """A reason may quote a server's answer, which must not reach a terminal as an escape or break the line."""
    text = status_text(status(server("a", reason="\x1b[2J\nrm\r\x9b1A")))
    assert text.splitlines()[-1].endswith("?[2J?rm??1A")


def test_conns_text_has_a_line_for_each_connection() -> None:
    """Ages and sizes are written for people, and one that is still being connected says so."""
    heads, one, two = conns_text([conn_json(CONNECTION), conn_json(replace(CONNECTION, server=""))]).splitlines()
    assert heads.split() == ["PROXY", "CLIENT", "SERVER", "AGE", "IDLE", "IN", "OUT"]
    assert one.split() == ["kube-apiserver", "127.0.0.1:40000", "m1", "1h", "1m", "0.2s", "512", "B", "3.0", "MiB"]
    assert "(connecting)" in two


def test_conns_text_says_when_there_are_none() -> None:
    """Silence would leave open whether it had worked."""
    assert conns_text([]) == "no open connections\n"


def test_text_of_no_proxies_is_the_first_line() -> None:
    """A table of nothing is not an error."""
    assert len(status_text(status_json(replace(snapshot(), proxies=()))).splitlines()) == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (10**12, "931.3 GiB"),
        (3 * 1024**6, "3072.0 PiB"),
    ],
)
def test_bytes_are_written_in_binary_units(count: int, text: str) -> None:
    """Four figures at most, until the units run out."""
    assert f"  {text}  " in status_text(status(server("a", bytes_out_total=count)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (86399, "23h 59m"),
        (86400 * 400, "400d 0h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    """Nobody needs the seconds of a day."""
    assert f"  {text}  " in status_text(status(server("a", since_seconds=seconds)))


def test_page_escapes_everything_it_shows() -> None:
    """Whatever a server, a file or a name says, it is text on the page and not markup."""
    evil = '<script>alert("1")</script>&\''
    values = status(server(evil, reason=evil, state=evil), last_reload_successful=False, last_reload_error=evil)
    page = "".join(status_page(values))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#x27;") >= 5


def test_page_shows_each_server_and_whether_something_is_wrong() -> None:
    """The page holds the rows of the table, and an alarm only when there is one."""
    good = "".join(status_page(status(server("m1"))))
    bad = "".join(status_page(status(server("m1", state="down", reason="timeout"))))
    assert 'class="alarm"' not in good
    assert '<p class="alarm">' in bad
    assert '<td class="word">m1</td>' in bad
    assert '<td class="word">timeout</td>' in bad


def test_rendering_imports_nothing_heavy() -> None:
    """The CLI starts fast: neither rendering nor asking brings in the daemon's libraries."""
    code = (
        "import sys, lbproxy.status.render, lbproxy.status.commands; "
        "print(sorted({'asyncio', 'uvloop', 'h11', 'prometheus_client', 'yaml', 'html'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
