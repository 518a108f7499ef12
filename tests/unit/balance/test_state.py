"""The words for a server's state."""

from __future__ import annotations

from lbproxy.balance.state import SEVERITY, State


def test_the_words_are_those_of_the_contract_from_the_best_to_the_worst() -> None:
    """Dashboards and scripts read them, and of several views of a server the worst is shown."""
    assert list(State) == ["up", "unchecked", "sick", "draining", "down", "disabled"]
    assert sorted(State, key=SEVERITY.__getitem__) == list(State)


def test_a_word_is_a_string() -> None:
    """JSON, a label of a metric and a line of the log take it as it is."""
    assert f"{State.UP} {State.DOWN!s}" == "up down"
    assert SEVERITY["sick"] == SEVERITY[State.SICK]
