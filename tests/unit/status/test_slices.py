"""Long answers in small pieces, and everybody else's turn in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.status.slices import in_slices, json_pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(VALUES)
def test_what_is_written_in_pieces_is_the_same_json(value: object) -> None:
    """Whatever is nested how deep, and empty where."""
    assert json.loads("".join(json_pieces(value))) == value
    assert "".join(json_pieces(value)) == json.dumps(value)


def test_a_piece_is_one_connection_or_one_server() -> None:
    """So that none of them takes long, and where lines may break each has one."""
    connections = [{"client": "a", "bytes_in": 1} for _ in range(100)]
    pieces = list(json_pieces({"conns": connections}, ",\n"))
    assert pieces[:4] == ['{"conns": ', "[", '{"client": "a", "bytes_in": 1}', ",\n"]
    assert len(pieces) == 203
    servers = {name: {"state": "up", "checks": {"ok": 1}} for name in ("a", "b")}
    assert "".join(json_pieces({"proxies": {"p": {"servers": servers}}}, ",\n")).splitlines() == [
        '{"proxies": {"p": {"servers": {"a": {"state": "up", "checks": {"ok": 1}},',
        '"b": {"state": "up", "checks": {"ok": 1}}}}}}',
    ]


def test_others_have_their_turn_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """After every piece that took longer than a slice, here after every one."""
    monkeypatch.setattr("lbproxy.status.slices._SLICE", -1.0)
    turns: list[str] = []

    async def other() -> None:
        for number in range(3):
            turns.append(f"other {number}")
            await asyncio.sleep(0)

    def pieces() -> Iterator[int]:
        for number in range(3):
            turns.append(f"piece {number}")
            yield number

    async def both() -> tuple[list[int], float]:
        task = asyncio.get_running_loop().create_task(other())
        made = await in_slices(pieces())
        await task
        return made

    made, seconds = asyncio.run(both())
    assert made == [0, 1, 2]
    assert seconds > 0
    assert turns == ["piece 0", "other 0", "piece 1", "other 1", "piece 2", "other 2"]
