"""What is believed of a server: results in, state and transitions out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.balance.checked import FLAP_LIMIT, FLAP_WINDOW, CheckResult
from lbproxy.balance.health import Health, Rules, Transition
from lbproxy.balance.state import State
from lbproxy.balance.suspicion import TrafficResult

UP, SICK, DRAINING, DOWN = State.UP, State.SICK, State.DRAINING, State.DOWN

LETTER = {UP: "u", SICK: "s", DRAINING: "l", DOWN: "d", State.UNCHECKED: "?"}
"""Of a check and of a state; l is for leaving."""
CHECKS = {letter: CheckResult(state, f"a check says {state.value}", state.value) for state, letter in LETTER.items()}
del CHECKS["?"]
TRAFFIC = {
    "F": TrafficResult("connect refused"),
    "E": TrafficResult("reset before its first byte", answered=True),
    "C": TrafficResult(),
    "A": TrafficResult(answered=True),
}
"""Failed connect, early end, connect worked, an answer came."""


def states(health: Health, story: str, step: float = 1.0, start: float = 0.0) -> str:
    """Return the state after each result of `story`, `step` seconds apart."""
    told = ""
    for at, letter in enumerate(story):
        health.observe(CHECKS.get(letter) or TRAFFIC[letter], start + at * step)
        told += LETTER[health.state]
    return told


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("uuu", "uuu"),
        ("d", "u"),
        ("dd", "ud"),
        ("dudud", "uuuuu"),
        ("ddud", "uddd"),
        ("dduu", "uddu"),
        ("dduduu", "uddddu"),
        ("ss", "us"),
        ("ssuu", "ussu"),
        ("ll", "ul"),
        ("lldd", "ulld"),
        ("ssdd", "ussd"),
        ("ddss", "udds"),
        ("ddsus", "udddd"),
        ("sd", "us"),
        ("ds", "us"),
        ("sdsdsd", "usssss"),
        ("ld", "ul"),
        ("lddd", "ulld"),
        ("sud", "uuu"),
        ("sudd", "uuud"),
        ("usd", "uus"),
    ],
)
def test_checks_have_to_agree(story: str, expected: str) -> None:
    """Two in a row fell or raise a server; different bad ones add up to the mildest, a good one resets the count."""
    assert states(Health(Rules(rise=2, fall=2), 0.0), story) == expected


@pytest.mark.parametrize(("rise", "fall"), [(1, 1), (2, 3), (5, 4)])
def test_rise_and_fall_are_counted_as_configured(rise: int, fall: int) -> None:
    """One fewer than configured changes nothing."""
    health = Health(Rules(rise=rise, fall=fall), 0.0)
    assert states(health, "d" * fall) == "u" * (fall - 1) + "d"
    assert states(health, "u" * rise) == "d" * (rise - 1) + "u"


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("F", "d"),
        ("FC", "du"),
        ("FA", "du"),
        ("E", "d"),
        ("EC", "dd"),
        ("ECCA", "dddu"),
        ("EA", "du"),
        ("FEC", "ddd"),
        ("FECA", "dddu"),
        ("CAC", "uuu"),
    ],
)
def test_one_failure_of_traffic_makes_a_server_suspect(story: str, expected: str) -> None:
    """A connect that works clears a failed connect; who broke off what it had accepted has to answer."""
    assert states(Health(Rules(), 0.0), story) == expected


def test_max_fails_are_counted_within_fail_timeout() -> None:
    """Failures that lie further apart do not add up, and a success forgets them."""
    rules = Rules(max_fails=3, fail_timeout=10.0)
    assert states(Health(rules, 0.0), "FFF", step=4.0) == "uud"
    assert states(Health(rules, 0.0), "FFFFFF", step=11.0) == "uuuuuu"
    assert states(Health(rules, 0.0), "FFCFF", step=1.0) == "uuuuu"


def test_max_fails_0_holds_nothing_against_a_server() -> None:
    """Traffic is then no witness at all."""
    health = Health(Rules(max_fails=0), 0.0)
    assert states(health, "FEFEFE") == "uuuuuu"
    assert not health.doubted


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ("Fuuu", "dddd"),
        ("FuuuC", "ddddu"),
        ("Fdd", "ddd"),
        ("FddC", "dddd"),
        ("FdduuC", "dddddu"),
        ("ddFCuu", "uddd" + "du"),
        ("ssF", "usd"),
        ("ssFC", "usds"),
    ],
)
def test_the_state_is_the_worse_of_what_checks_and_traffic_say(story: str, expected: str) -> None:
    """Neither witness can overrule the other's bad word while it is fresh."""
    assert states(Health(Rules(), 0.0), story) == expected


@pytest.mark.parametrize(
    ("story", "expected"),
    [("Fuuu", "dduu"), ("Fuuuuuu", "dduuuuu"), ("FddFuuuu", "ddddd" + "uuu"), ("Euuuu", "ddddd"), ("EuuuA", "ddddu")],
)
def test_checks_clear_a_failed_connect_when_fail_timeout_is_over(story: str, expected: str) -> None:
    """Nobody may connect for hours to find out that a server is back; but who broke off has to answer a client."""
    health = Health(Rules(fail_timeout=10.0), 0.0)
    assert states(health, story, step=6.0) == expected
    assert health.reason in ("a check says up", "reset before its first byte", "a connection to it worked")


def test_a_transition_names_the_witness_and_its_reason() -> None:
    """Only a change of state is one, and what it says is what the state shows afterwards."""
    health = Health(Rules(), 0.0)
    assert health.observe(CHECKS["d"], 1.0) is None
    assert health.observe(CHECKS["d"], 2.0) == Transition(UP, DOWN, "a check says down", said=DOWN)
    assert (health.reason, health.since) == ("a check says down", 2.0)
    assert health.observe(CHECKS["d"], 3.0) is None
    assert health.observe(CHECKS["u"], 4.0) is None
    assert health.observe(CHECKS["u"], 5.0) == Transition(DOWN, UP, "a check says up", said=UP)
    assert health.observe(TRAFFIC["F"], 6.0) == Transition(UP, DOWN, "connect refused", said=None)
    assert health.observe(TRAFFIC["C"], 7.0) == Transition(DOWN, UP, "a connection to it worked", said=None)


def test_what_the_checks_say_and_since_when_is_known_apart_from_the_state() -> None:
    """A server that is sick a second time is given the whole grace again, whatever traffic makes of it meanwhile."""
    health = Health(Rules(), 0.0)
    seen = []
    for at, letter in enumerate("ssFCuuss"):
        health.observe(CHECKS.get(letter) or TRAFFIC[letter], float(at))
        seen.append((LETTER[health.state], LETTER[health.checked.state], health.checked.since))
    assert seen == [
        ("u", "u", 0.0), ("s", "s", 1.0), ("d", "s", 1.0), ("s", "s", 1.0),
        ("s", "s", 1.0), ("u", "u", 5.0), ("u", "u", 5.0), ("s", "s", 7.0),
    ]  # fmt: skip


def test_checks_that_find_out_what_traffic_has_shown_are_told() -> None:
    """Connections are cut on the word of the checks, and new ones mostly notice a dead server before they do."""
    health = Health(Rules(), 0.0)
    health.observe(TRAFFIC["F"], 1.0)
    assert health.observe(CHECKS["d"], 2.0) is None
    assert health.observe(CHECKS["d"], 3.0) == Transition(DOWN, DOWN, "a check says down", said=DOWN)
    assert (health.reason, health.since) == ("a check says down", 1.0)
    assert health.observe(CHECKS["d"], 4.0) is None
    assert health.observe(TRAFFIC["F"], 5.0) is None


def test_a_suspect_server_is_tried_once_per_fail_timeout() -> None:
    """One connection tries it; until that has worked the others keep away for as long again."""
    health = Health(Rules(fail_timeout=10.0), 0.0)
    assert not health.may_be_tried(0.0)
    health.observe(TRAFFIC["F"], 0.0)
    assert [health.may_be_tried(at) for at in (1.0, 9.9, 10.0)] == [False, False, True]
    health.suspicion.begin_trial(10.0)
    assert [health.may_be_tried(at) for at in (10.0, 19.9, 20.0)] == [False, False, True]
    health.suspicion.begin_trial(20.0)
    health.observe(TRAFFIC["F"], 21.0)
    assert [health.may_be_tried(at) for at in (30.0, 31.0)] == [False, True]
    health.observe(TRAFFIC["C"], 32.0)
    assert not health.may_be_tried(100.0)
    assert health.state is UP


def test_a_server_that_checks_have_found_bad_is_not_tried() -> None:
    """A trial is for what nobody else looks at."""
    health = Health(Rules(), 0.0)
    states(health, "Fdd")
    assert not health.may_be_tried(1000.0)


def test_each_fall_soon_after_the_last_asks_for_twice_as_many_rises() -> None:
    """A server that comes and goes is believed less and less, up to a limit, and after a quiet time anew."""
    health = Health(Rules(rise=2, fall=2), 0.0)
    now = 0.0
    needed = []
    for _ in range(6):
        states(health, "dd", start=now)
        count = 0
        while health.state is DOWN:
            count += 1
            states(health, "u", start=now + 2 + count)
        needed.append(count)
        now += 60.0
    assert needed == [2, 4, 8, 2 * FLAP_LIMIT, 2 * FLAP_LIMIT, 2 * FLAP_LIMIT]
    states(health, "dd", start=now + FLAP_WINDOW + 10)
    assert states(health, "uu", start=now + FLAP_WINDOW + 20) == "du"


def test_a_server_is_unchecked_until_a_check_has_answered() -> None:
    """Green before anybody has looked is a lie; where there are no checks it is up as far as anybody can tell."""
    health = Health(Rules(interval=5.0), 0.0)
    assert (health.state, health.reason) == (State.UNCHECKED, "no check has answered yet")
    assert health.observe(CHECKS["u"], 1.0) == Transition(State.UNCHECKED, UP, "a check says up", said=UP)
    assert Health(Rules(), 0.0).state is UP


@pytest.mark.parametrize(("bad", "state"), [("s", SICK), ("l", DRAINING), ("d", DOWN)])
def test_what_checks_say_behind_a_suspicion_is_told(bad: str, state: State) -> None:
    """Connections are moved, drained or cut on the word of the checks, whatever clients have found before them."""
    health = Health(Rules(), 0.0)
    health.observe(TRAFFIC["F"], 1.0)
    assert health.observe(CHECKS[bad], 2.0) is None
    transition = health.observe(CHECKS[bad], 3.0)
    assert transition is not None
    assert (transition.old, transition.new, transition.said) == (DOWN, DOWN, state)


def test_without_checks_what_they_said_is_forgotten() -> None:
    """A reload may switch them off; what traffic has shown stays."""
    health = Health(Rules(), 0.0)
    states(health, "dd")
    transition = health.forget_checks(5.0)
    assert transition is not None
    assert (transition.old, transition.new, health.state) == (DOWN, UP, UP)
    states(health, "ssF")
    health.forget_checks(6.0)
    assert health.state is DOWN


@given(st.text("usldFECA", max_size=60), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_transitions_are_exactly_the_changes_of_state(story: str, rise: int, fall: int, max_fails: int) -> None:
    """Whoever follows the transitions knows the state; only where the checks change their mind may it be the same."""
    health = Health(Rules(rise=rise, fall=fall, max_fails=max_fails), 0.0)
    state = UP
    for at, letter in enumerate(story):
        transition = health.observe(CHECKS.get(letter) or TRAFFIC[letter], float(at))
        if transition is not None:
            assert transition.old is state
            assert transition.new is not transition.old or transition.said is not None
            assert transition.said is None or letter in CHECKS
            assert transition.reason
            state = transition.new
        assert health.state is state
        if max_fails == 0 and state is DOWN:
            assert "d" in story[: at + 1]


@pytest.mark.parametrize(
    ("story", "expected"),
    [("Edduu", "ddddu"), ("Essuu", "ddddu"), ("EddEuu", "dddddu"), ("dduEuu", "uddddu"), ("EduEuu", "dddddd"),
     ("EdduuEuu", "dddduddd")],
)  # fmt: skip
def test_an_outage_that_checks_have_seen_begin_and_end_explains_what_clients_met(story: str, expected: str) -> None:
    """All masters hang, and recover: where nobody comes for hours to prove it, none must be shown down for hours."""
    assert states(Health(Rules(fail_timeout=10.0), 0.0), story, step=6.0) == expected


@given(st.text("uslFECA", max_size=60))
def test_enough_good_results_make_any_server_up(story: str) -> None:
    """There is no state that a server cannot leave."""
    health = Health(Rules(), 0.0)
    states(health, story)
    states(health, "u" * 2 * FLAP_LIMIT + "A", start=100.0)
    assert health.state is UP


@given(st.text("uslFECAd", max_size=14), st.text("uslFECAd", max_size=14))
def test_one_who_is_told_chooses_as_the_one_who_saw(story: str, more: str) -> None:
    """State, rank and trial are alike, also after both have seen the same things since."""
    seer, told = (Health(Rules(rise=2, fall=2, interval=1.0, max_fails=2), 0.0) for _ in range(2))
    states(seer, story)
    told.believe(seer.tell())
    assert told.tell() == seer.tell()
    assert (told.severity, told.checked.vouches) == (seer.severity, seer.checked.vouches)
    traffic = "".join(letter for letter in more if letter in TRAFFIC)
    assert states(told, traffic, start=len(story)) == states(seer, traffic, start=len(story))
    for now in (len(story), len(story) + 5.0, len(story) + 30.0):
        assert told.may_be_tried(now) == seer.may_be_tried(now)
    assert (told.suspicion.rank(), told.suspicion.tell()) == (seer.suspicion.rank(), seer.suspicion.tell())


@given(st.text("uslFECAd", max_size=20))
def test_one_who_is_told_meets_the_same_transitions(story: str) -> None:
    """When the checks have changed their mind it is said so, or nothing would be done about the connections."""
    seer, told = (Health(Rules(rise=1, fall=1, interval=1.0), 0.0) for _ in range(2))
    for at, letter in enumerate(story, 1):
        seen = seer.observe(CHECKS.get(letter) or TRAFFIC[letter], float(at))
        heard = told.believe(seer.tell())
        assert (heard and heard[:2], heard and heard.said) == (seen and seen[:2], seen and seen.said)
        assert told.believe(seer.tell()) is None
