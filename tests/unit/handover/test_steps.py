"""The order of an upgrade's steps: a table, and the code that follows it."""

from __future__ import annotations

import re
from pathlib import Path

import lbproxy
from lbproxy.handover.steps import Side, Step

ORDER = """
old SPAWN HELLO
new MEET PREPARE READY
old FREEZE SEND
new TAKE HAVE
old RELEASE NAME GO
new SERVE
old LEAVE
"""


def test_the_two_processes_take_turns_in_this_order() -> None:
    """Whatever the new one may refuse comes before anything stands still, and everything before the word to go."""
    assert [f"{step.side.value} {step.name}" for step in Step] == [
        f"{side} {name}" for side, *names in map(str.split, ORDER.strip().split("\n")) for name in names
    ]  # fmt: skip


def test_what_the_old_process_changes_before_the_word_to_go_can_be_undone() -> None:
    """And nothing that comes after it can: what is left there is the new process's, or nothing."""
    old = [step for step in Step if step.side is Side.OLD]
    undone = [step.name for step in old if step.undo]
    assert undone == ["SPAWN", "FREEZE", "RELEASE", "NAME"]
    assert [step.name for step in Step if not step.fails] == ["LEAVE"]


def test_the_code_begins_every_step_once_and_in_the_order_of_the_table() -> None:
    """Each side's file read from top to bottom; what a running upgrade says is held by tests/process/test_upgrade."""
    package = Path(lbproxy.__file__).parent
    for side, files in {Side.OLD: ("handover/upgrade", "process/daemon"), Side.NEW: ("handover/takeover",)}.items():
        text = "".join((package / f"{file}.py").read_text() for file in files)
        begun = re.findall(r"^ +begin\(Step\.(\w+)\)$", text, re.MULTILINE)
        assert begun == [step.name for step in Step if step.side is side]
