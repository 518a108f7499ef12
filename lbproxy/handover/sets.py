"""What several processes have kept (`workers: N`): a *set* each, of marks and queues, as `keeper` makes them.

Sets are numbered, and never twice the same while the service lives; the fd store knows their parts as
`set-7.marks` and `set-7.carrier-3`. Whoever comes next, one process or several, more or fewer, takes them apart:
what can go on is dealt anew, and rides without a slot until its new keeper gives it one.

For a moment a connection is in two sets: the one it comes from and the one that it is kept in from now on. Nothing
moves before the new one is with systemd, and only then is the old one forgotten. So of two sets that have the same
socket the newer one is right, whatever the marks of the older one say.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from lbproxy.handover.fdqueue import receive
from lbproxy.handover.keeper import MARKS, QUEUE
from lbproxy.handover.marks import Marks
from lbproxy.handover.parcel import Parcel
from lbproxy.handover.revive import close, sift
from lbproxy.record import dataclass

_PREFIX: Final = "set-"


@dataclass(frozen=True, slots=True)
class Content:
    """What is in sets: connections that can go on, those that must be reset, who was drained, and what was wrong."""

    good: list[Parcel]
    holed: list[Parcel]
    drained: list[str]
    wrong: list[str]


def name_of(number: int, part: str) -> str:
    """Return the fd store's name of a part of a set."""
    return f"{_PREFIX}{number}.{part}"


def parse(name: str) -> tuple[int, str] | None:
    """Return the number and the part that a name of the fd store is about, None for one that is of no set."""
    number, dot, part = name.removeprefix(_PREFIX).partition(".")
    return (int(number), part) if name.startswith(_PREFIX) and dot and number.isdecimal() else None


def unload(parts: Mapping[str, int]) -> Content:
    """Return what is in one set, of descriptors that stay the caller's."""
    content = Content([], [], [], [])
    if MARKS not in parts:
        return content
    marks = Marks(os.dup(parts[MARKS]))
    rested: list[Parcel] = []
    kept: list[Parcel] = []
    queues = {int(part.rpartition("-")[2]): fd for part, fd in parts.items() if part.startswith(f"{QUEUE}-")}
    for number in sorted(queues):
        with socket.socket(fileno=os.dup(queues[number])) as sock:
            found, state, wrong = receive(sock)
        (rested if marks.at_rest == number else kept).extend(found)
        content.drained.extend(state.get("drained", ()))
        content.wrong.extend(wrong)
    good, holed = sift(rested, kept, marks)
    marks.close()
    content.good.extend(good)
    content.holed.extend(holed)
    for parcel in good:
        parcel.slot = parcel.serial = 0
    return content


def merge(contents: Iterable[Content]) -> Content:
    """Return the content of several sets, the newest first, in which every socket is once."""
    whole = Content([], [], [], [])
    known: set[int] = set()
    for content in contents:
        told = {os.fstat(parcel.client_fd).st_ino: parcel for parcel in content.good}
        torn = {os.fstat(parcel.client_fd).st_ino: parcel for parcel in content.holed}
        for found, into in ((told, whole.good), (torn, whole.holed)):
            for inode, parcel in found.items():
                if inode in known:
                    close(parcel)
                else:
                    into.append(parcel)
        known |= told.keys() | torn.keys()
        whole.drained.extend(content.drained)
        whole.wrong.extend(content.wrong)
    return whole
