"""The table of evidence, row by row: what was seen of a connection, and what it says of the server."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lbproxy.balance import evidence
from lbproxy.balance.evidence import TABLE, weigh
from lbproxy.balance.suspicion import TrafficResult

WHY = "because"
NO_CONNECT = TrafficResult(WHY)
BROKE_OFF = TrafficResult(WHY, answered=True)

ROWS = [
    # seen, says, says of a server for which checks vouch
    ("CONNECT_FAILED", NO_CONNECT, NO_CONNECT),
    ("CONNECT_BROKEN", BROKE_OFF, BROKE_OFF),
    ("SHORTAGE", None, None),
    ("CLOSED_AT_ONCE", BROKE_OFF, BROKE_OFF),
    ("CLOSED_PATIENTLY", None, None),
    ("HELLO_CUT_SHORT", None, None),
    ("HELLO_REFUSED", BROKE_OFF, BROKE_OFF),
    ("HELLO_UNANSWERED", BROKE_OFF, BROKE_OFF),
    ("HELLO_GIVEN_UP", BROKE_OFF, BROKE_OFF),
    ("LEFT_SOON", None, None),
    ("OTHER_REFUSED", BROKE_OFF, None),
    ("VANISHED", NO_CONNECT, NO_CONNECT),
    ("CONNECTED", TrafficResult(), TrafficResult()),
    ("ANSWERED", TrafficResult(answered=True), TrafficResult(answered=True)),
]


def test_each_thing_that_can_be_seen_has_its_row() -> None:
    """In the order of the numbers, so that none is forgotten in one of the two tables, or in the prose."""
    assert [getattr(evidence, seen) for seen, _, _ in ROWS] == list(range(len(TABLE)))
    source = Path(__file__).parents[3] / "lbproxy" / "balance" / "evidence.py"  # a compiled module has no docstring
    prose = ast.get_docstring(ast.parse(source.read_text()), clean=False) or ""
    assert re.findall(r"^    ([A-Z_]+)  ", prose, re.MULTILINE) == [seen for seen, _, _ in ROWS]


def test_each_thing_is_seen_by_somebody() -> None:
    """A row that nobody names says what does not happen."""
    proxy = Path(__file__).parents[3] / "lbproxy" / "proxy"
    nodes = [node for file in proxy.glob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    named = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "lbproxy.balance.evidence"
        for alias in node.names
    }
    assert {seen for seen, _, _ in ROWS} <= named


@pytest.mark.parametrize(("seen", "says", "vouched"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_says_what_the_prose_says(seen: str, says: TrafficResult | None, vouched: TrafficResult | None) -> None:
    """What says nothing of a server is not held against it."""
    assert weigh(getattr(evidence, seen), WHY, vouched=False) == says
    assert weigh(getattr(evidence, seen), WHY, vouched=True) == vouched


def test_another_server_is_asked_only_where_this_one_will_not_answer() -> None:
    """And where nothing was said that might take effect twice."""
    assert {getattr(evidence, seen) for seen in ("CLOSED_AT_ONCE", "HELLO_REFUSED", "HELLO_UNANSWERED")} == set(
        evidence.ANOTHER
    )
