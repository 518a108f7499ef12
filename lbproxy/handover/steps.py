"""In which order a process hands everything over to another one while both run: one table, which both sides follow.

What goes wrong, and what happens then:

- *Until `GO`* a step fails, or the new process dies, refuses or is late: the old one undoes its own steps, the last one
  first, and serves on. Connections have stood still for a moment, and nothing is lost.
- *Until `GO`* the old process dies: the new one hears its end of the pair close, and ends, without having moved a byte.
  The service has crashed; systemd starts it anew and the marks decide (`keeper`).
- *After `GO`* the old process touches no socket any more, and it does not matter how it ends. If the new one dies, the
  service has crashed, as above.

So whatever can fail belongs before `GO`. The new control socket listens from `PREPARE` on, beside the old one. In
`SERVE` it takes its place, and what fails in that, or with the admin endpoint, is a line in the log and no more.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Final

log = logging.getLogger(__name__)


class Side(Enum):
    """Who takes a step."""

    OLD = "old"
    NEW = "new"


_OLD: Final = Side.OLD
_NEW: Final = Side.NEW


class Step(Enum):
    """One step: whose it is, what is done, what can fail in it, and how the old process undoes it."""

    SPAWN = _OLD, "start the program anew", "no such program, no descriptor left", "end it"
    HELLO = _OLD, "tell version, listeners and marks; wait", "it ends, refuses, or is not ready within 30 s", ""
    MEET = _NEW, "learn these, read the configuration", "a version that is not known, a broken file", ""
    PREPARE = _NEW, "look up names, bind what is new", "a port is taken, no room for a control socket", ""
    READY = _NEW, "say so, wait for the connections", "the old process has gone", ""
    FREEZE = _OLD, "stop all movement and accepting", "a bug", "thaw"
    SEND = _OLD, "send every connection; wait", "no descriptor left; it has not taken them within 5 s", ""
    TAKE = _NEW, "read every connection", "a message that cannot be read", ""
    HAVE = _NEW, "say so, wait for the word to go", "the old process has gone", ""
    RELEASE = _OLD, "give up the admin endpoint", "a bug", "take it back"
    NAME = _OLD, "name the new process to systemd", "systemd does not read what it is told", "name itself again"
    GO = _OLD, "give the word to go", "the new process has died", ""
    SERVE = _NEW, "adopt the connections, let them move, answer commands", "a bug: it is too late to go back", ""
    LEAVE = _OLD, "see it serve, end without touching a socket", "", ""

    def __init__(self, side: Side, does: str, fails: str, undo: str) -> None:
        self.side = side
        self.does = does
        self.fails = fails
        self.undo = undo


def begin(step: Step) -> None:
    """Called at the beginning of each step, by whose it is."""
    log.debug("handover: %s process: %s", step.side.value, step.does)
