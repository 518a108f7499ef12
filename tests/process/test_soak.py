"""bench/soak in short: in a cycle of everything nothing is wrong or cut for no reason; and it would be seen."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.soak import plan
from bench.soak.causes import KILLED, Causes
from bench.soak.soak import Soak
from bench.soak.verdict import Verdict, judge_levels, judge_streams

NOON = time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1))
CUT: dict[str, Any] = {
    "target": "staying", "number": 2, "kind": "steady", "port": 5000, "opened": NOON - 10, "gone": NOON,
    "ended": "reset", "finished": False, "sent": 100, "received": 50, "wrong": "", "stuck": False,
}  # fmt: skip
WHOLE = {**CUT, "ended": "eof", "finished": True}
OPEN = {"what": "open", "number": 2, "server": "s1"}
END = {
    "what": "end", "number": 2, "server": "s1", "ended": "eof", "finished": True, "sent": 50, "received": 100,
    "aborted": False, "wrong": "",
}  # fmt: skip


def line(reason: str, server: str = "s1") -> str:
    """Return a line of the access log at noon."""
    return f"2026-01-02 12:00:00.100 INFO  access: p 127.0.0.1:5000 -> {server} 10.100s in=100 out=50 {reason}\n"


def judged(stream: dict[str, Any], end: dict[str, Any], log: str = "", fault: str = "", event: str = "") -> Verdict:
    """Return the verdict on one stream, with a fault of its server or something done to lbproxy at noon."""
    span = [(fault or event, NOON - 1, NOON + 1)]
    causes = Causes(log, span if event else [], {"s1": span if fault else [], "s2": []})
    verdict = Verdict(faults=causes.odd())
    judge_streams(verdict, [stream], [OPEN, end], {"staying": causes})
    return verdict


@pytest.mark.timeout(240)
def test_a_cycle_of_everything_breaks_no_promise() -> None:
    """Bytes, connects and ends; what is used is for the long form to say, which has the time."""
    result = Soak(minutes=0.3, cycles=1, seed=1, share=0.4).run()
    assert result.verdict.faults == []
    assert result.verdict.streams["intact"] > 30
    assert all(counts["served"] > 50 for counts in result.visits.values())
    assert all(counts["server_rst"] for counts in result.verdict.ended.values())


def test_a_stream_that_both_ends_have_whole_is_intact() -> None:
    """Nothing else is."""
    assert judged(WHOLE, END, line("server_fin")).streams == {"intact": 1}


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        ({**WHOLE, "wrong": "after byte 7"}, END),
        (WHOLE, {**END, "wrong": "after byte 7"}),
        ({**WHOLE, "received": 49}, END),
        (WHOLE, {**END, "received": 99}),
        (WHOLE, {**END, "finished": False, "ended": "reset"}),
    ],
)
def test_wrong_bytes_and_false_ends_are_seen(stream: dict[str, Any], end: dict[str, Any]) -> None:
    """At either end, and whatever fault the server has: only a kill of lbproxy, for which the kernel closes, is one."""
    verdict = judged(stream, end, line("server_fin"), fault="reset")
    assert verdict.streams == {"wrong": 1}
    assert len(verdict.faults) == 1


def test_a_cut_needs_a_fault_of_that_server_at_that_time() -> None:
    """One of another server, or an hour before, explains nothing."""
    assert judged(CUT, END, line("server_rst"), fault="reset").faults == []
    assert judged(CUT, END, line("server_rst")).faults
    assert judged({**CUT, "gone": NOON + 60, "opened": NOON + 50}, END, fault="reset").faults
    assert judged(CUT, END, line("error"), event="kill").faults
    assert judged(CUT, END, line("drained")).faults == []


def test_a_kill_of_lbproxy_excuses_what_nobody_has_written_down() -> None:
    """The next process has what systemd held; of the rest there is no line."""
    verdict = judged(WHOLE, {**END, "finished": False, "ended": "reset"}, event="kill")
    assert (verdict.faults, verdict.causes) == ([], {"staying streams": {KILLED: 1}})


def test_every_line_of_the_log_is_held_against_the_faults() -> None:
    """Hostile clients have ends of their own, and a server that resets one of them without a fault is none of these."""
    assert Causes(line("client_rst") + line("server_fin"), [], {"s1": []}).odd() == []
    assert len(Causes(line("server_rst") + line("error"), [], {"s1": []}).odd()) == 2


@pytest.mark.parametrize(("last", "flat"), [(100_000, True), (101_900, True), (102_100, False)])
def test_what_grows_from_third_to_third_is_seen(last: int, flat: bool) -> None:
    """By more than two per cent; the first third is for warming up."""
    values = [50_000] * 10 + [100_000] * 10 + [last] * 10
    samples = [
        {"at": float(n), "rss": v, "anonymous": v, "pss": v, "fds": 200, "pipes": 8} for n, v in enumerate(values)
    ]
    verdict = Verdict()
    judge_levels(verdict, "staying", samples)
    assert (verdict.faults == []) is flat


def test_each_cycle_is_like_the_other_and_ends_well() -> None:
    """Or thirds could not be compared."""
    for seed in range(20):
        acts = plan.cycle(seed)
        assert acts == plan.cycle(seed)
        for name in plan.SERVERS:
            mine = [act.what for act in acts if act.whom == name]
            assert mine[1::2] == ["well"] * (len(mine) // 2)
            assert "well" not in mine[::2]
    assert plan.cycles(60) == 12
    assert all(plan.cycles(minutes) % 3 == 0 for minutes in (2, 3, 5, 10, 30, 61, 600))
