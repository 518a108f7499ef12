"""Turns of those who ask, so that all of them together cost little."""

from __future__ import annotations

import asyncio

from lbproxy.status.serving import Turns
from tests.unit import hasty


def test_those_who_ask_have_their_turn_one_after_another_with_time_in_between() -> None:
    """However many ask at once; who comes later, with nobody before him, does not wait."""
    times: list[tuple[str, float]] = []

    async def ask(turns: Turns, name: str) -> None:
        await turns.mine()
        times.append((name, round(asyncio.get_running_loop().time(), 3)))

    async def main() -> None:
        turns = Turns(0.5)
        await asyncio.gather(*(ask(turns, name) for name in "abc"))
        await asyncio.sleep(10)
        await ask(turns, "d")

    hasty.run(main())
    assert times == [("a", 0.0), ("b", 0.5), ("c", 1.0), ("d", 11.0)]
