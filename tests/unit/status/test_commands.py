"""Rules of a command: what it is asked with is checked, once, before it is carried out."""

from __future__ import annotations

import asyncio
from typing import TypedDict

import pytest

from lbproxy.errors import ControlError
from lbproxy.status.commands import Command


class Move(TypedDict):
    """Arguments of two types."""

    server: str
    soon: bool


MOVE = Command[Move, Move]("move", Move)


async def move(arguments: Move) -> Move:
    """Answer with what was asked."""
    return arguments


def asked(arguments: dict[str, object]) -> object:
    """Return what a daemon would answer."""
    name, handle = MOVE.bind(move)
    assert name == "move"

    async def answer() -> object:
        return await handle(arguments)

    return asyncio.run(answer())


def test_arguments_of_the_right_form_arrive() -> None:
    """Others are let pass: a newer CLI may say more than an older daemon knows."""
    assert asked({"server": "m3", "soon": True, "force": 1}) == {"server": "m3", "soon": True, "force": 1}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"soon": True}, "command move needs server, of type str"),
        ({"server": "m3"}, "command move needs soon, of type bool"),
        ({"server": 3, "soon": True}, "command move needs server, of type str"),
        ({"server": "m3", "soon": "no"}, "command move needs soon, of type bool"),
        ({"server": None, "soon": None}, "command move needs server, of type str"),
    ],
)
def test_what_is_missing_or_of_another_type_is_refused(arguments: dict[str, object], why: str) -> None:
    """What comes over a socket is not believed, and nothing is done on a guess."""
    with pytest.raises(ControlError, match=f"^{why}$"):
        asked(arguments)
