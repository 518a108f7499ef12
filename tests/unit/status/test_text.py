"""Rules of what a terminal shows."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from lbproxy.status.page import status_page
from lbproxy.status.render import conn_json, status_json
from lbproxy.status.shapes import Event, Status
from lbproxy.status.text import Screen, conns_text, events_text, status_text
from tests.unit.status.values import CONNECTION, server, snapshot, status


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


def test_what_lbproxy_itself_has_suffered_stands_before_the_table() -> None:
    """Nobody looks for them; a daemon of an older version says nothing of them, and that is no reason to fail."""
    state = replace(snapshot(server("a")), task_failures={"check": 2, "keep": 0, "watch": 1}, log_lines_dropped=7,
                    workers_replaced=3)  # fmt: skip
    found = status_json(state)
    alarms = [
        "ERRORS OF LBPROXY'S OWN SINCE ITS START, the log tells them: check 2, watch 1",
        "3 workers have died or hung since its start and were replaced, the log tells when",
        "7 lines of the log were dropped since nobody read them in time",
    ]
    assert status_text(found).splitlines()[1:4] == alarms
    assert "check 2, watch 1" in "".join(status_page(found))
    assert "OWN" not in status_text(status_json(replace(state, task_failures={"check": 0})))
    older = {
        key: value
        for key, value in found.items()
        if key not in ("task_failures", "log_lines_dropped", "workers_replaced")
    }
    assert status_text(cast("Status", older)).splitlines()[1] == ""


def test_text_has_no_control_characters() -> None:
    """A reason may quote a server's answer, which must not reach a terminal as an escape or break the line."""
    text = status_text(status(server("a", reason="\x1b[2J\nrm\r\x9b1A")))
    assert text.splitlines()[-1].endswith("?[2J?rm??1A")


def test_conns_text_has_a_line_for_each_connection() -> None:
    """Ages and sizes are written for people, and one that is still being connected says so."""
    heads, one, two = conns_text([conn_json(CONNECTION), conn_json(replace(CONNECTION, server=""))]).splitlines()
    assert heads.split() == ["PROXY", "CLIENT", "PROCESS", "SERVER", "AGE", "IDLE", "IN", "OUT"]
    assert one.split() == ["kube-apiserver", "127.0.0.1:40000", "m1", "1h", "1m", "0.2s", "512", "B", "3.0", "MiB"]
    assert "(connecting)" in two


def test_conns_text_says_when_there_are_none() -> None:
    """Silence would leave open whether it had worked."""
    assert conns_text([]) == "no open connections\n"


def test_text_of_no_proxies_is_the_first_line() -> None:
    """A table of nothing is not an error."""
    assert len(status_text(status_json(replace(snapshot(), proxies=()))).splitlines()) == 1


def test_a_terminal_of_eighty_columns_shows_every_reason_and_no_longer_line() -> None:
    """Three servers with names, addresses and one that has failed: what they are asked for first is why."""
    down = "connection refused, and before that no answer within 2s (TLS handshake): 14 connections closed"
    servers = [server(f"master{n}", address=f"10.4.6.1{n}:6443", reason="200: ready") for n in (1, 2)]
    text = status_text(
        status(*servers, server("master3", address="[2001:db8::3]:6443", state="down", reason=down)), Screen(80)
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("200: ready") == 2
    assert down in " ".join(text.split())


def test_colours_are_for_states_alone_and_only_where_asked_for() -> None:
    """A word says all that a colour does."""
    shown = status(server("up", state="sick"), server("m2", state="down"))
    assert "\x1b" not in status_text(shown)
    painted = status_text(shown, Screen(colour=True))
    assert painted.count("\x1b[0m") == 2
    assert "  \x1b[31;1mdown \x1b[0m  " in painted


def test_conns_name_the_process_where_it_is_known() -> None:
    """Who holds the connections is the first question on a node."""
    one = conn_json(CONNECTION)
    _, known, unknown = conns_text([one, one], ["kubelet[812]", ""]).splitlines()
    assert " kubelet[812] " in known
    assert "kubelet" not in unknown


def test_conns_stay_in_line_where_the_names_of_servers_are_long() -> None:
    """They go below; what is compared, ages and sizes, stands in columns."""
    name = "master1.cluster.example:6443"
    text = conns_text([conn_json(replace(CONNECTION, server=name))] * 2, ["kubelet[812]", ""], Screen(80))
    heads, one, below, two, _ = text.splitlines()
    assert below.strip() == name
    assert [line.rindex(word) for line, word in ((heads, "OUT"), (one, "MiB"), (two, "MiB"))] == [len(heads) - 3] * 3


def test_events_have_a_line_each() -> None:
    """Whatever a message holds it is one line, and a terminal's escapes do nothing."""
    event: Event = {"ts": "2026-11-27T03:12:00.123Z", "level": "warning", "logger": "proxy", "msg": "m2 is down\x1b[2J"}
    first, second = events_text([event, event]).splitlines()
    assert first == second
    assert first.endswith(" WARNING proxy: m2 is down?[2J")
    assert events_text([]) == "no events\n"
