"""Rules of a command: what it is asked with is checked, once, before it is carried out."""

from __future__ import annotations

import asyncio
from typing import TypedDict, cast

import pytest

from lbproxy import change, look
from lbproxy.errors import ControlError
from lbproxy.process.commands import Operable, commands
from lbproxy.status import commands as asked_of
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


def test_every_command_is_carried_out_and_can_be_asked() -> None:
    """By the daemon and by the command line; nothing else is."""
    known = {name: each.name for name, each in vars(asked_of).items() if isinstance(each, Command)}
    assert set(commands(cast("Operable", None))) == set(known.values())
    asks = vars(change) | vars(look)
    assert {name for name, each in asks.items() if isinstance(each, Command)} == set(known)


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
