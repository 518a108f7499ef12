"""Marks in memory that outlives this process: which connections had bytes in it when it died.

A slot for each kept connection, in a memfd that systemd holds and every successor maps again:

    0   1  direction up has bytes in this process's memory (between a read and the write, or in a pipe)
    1   1  the same for direction down
    8   8  serial number of the connection, 0 for a free slot

A mark is set before a read and cleared after the write, without a system call, which no file or message could do. A
process that is killed in between leaves it standing, and its successor resets that connection rather than go on with
a hole in the stream. The serial number tells a connection from one that used the slot before.

Slot 0 is no connection's:

    0   8  number of the queue that was written while nothing moved; 0 as soon as anything has moved since
    8   8  the last serial number given out
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable
from typing import Final

SLOT: Final = 16
UPWARD: Final = 0
DOWNWARD: Final = 1
_LAYOUT: Final = struct.Struct("=BB6xQ")
_NUMBER: Final = struct.Struct("=Q")
_SERIAL_AT: Final = 8


def places(slot: int) -> tuple[int, int]:
    """Return where in the page the marks of a slot's two directions (up, down) stand."""
    return slot * SLOT + UPWARD, slot * SLOT + DOWNWARD


class Marks:
    """The slots, numbered from 1. `page` is the mapped memory: mark at `places`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.page = mmap.mmap(fd, 0)
        self._slots = len(self.page) // SLOT - 1
        self._top = 0
        self._free: list[int] = []

    @classmethod
    def create(cls, slots: int) -> Marks:
        """Make new ones, for as many connections. Raises OSError, with nothing left open."""
        fd = os.memfd_create("lbproxy-marks", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, (slots + 1) * SLOT)
            return cls(fd)
        except OSError:
            os.close(fd)
            raise

    @property
    def at_rest(self) -> int:
        """The number of the queue that tells the whole truth, 0 for none: see `keeper`."""
        return int(_NUMBER.unpack_from(self.page, 0)[0])

    @at_rest.setter
    def at_rest(self, number: int) -> None:
        _NUMBER.pack_into(self.page, 0, number)

    def take(self) -> tuple[int, int]:
        """Return a free slot and a new serial number, which it now has; (0, 0) if all slots are in use."""
        if self._free:
            slot = self._free.pop()
        elif self._top < self._slots:
            self._top += 1
            slot = self._top
        else:
            return 0, 0
        serial = int(_NUMBER.unpack_from(self.page, _SERIAL_AT)[0]) + 1
        _NUMBER.pack_into(self.page, _SERIAL_AT, serial)
        _LAYOUT.pack_into(self.page, slot * SLOT, 0, 0, serial)
        return slot, serial

    def free(self, slot: int) -> None:
        """Give a slot up."""
        _LAYOUT.pack_into(self.page, slot * SLOT, 0, 0, 0)
        self._free.append(slot)

    def claim(self, slots: Iterable[int]) -> None:
        """Take over inherited marks, in which exactly `slots` are in use."""
        used = set(slots)
        self._top = max(used, default=0)
        self._free = []
        for slot in range(1, self._top + 1):
            if slot not in used:
                self.free(slot)

    def serial(self, slot: int) -> int:
        """Return the serial number in a slot, 0 for one that is free or does not exist."""
        return int(_LAYOUT.unpack_from(self.page, slot * SLOT)[2]) if 0 < slot <= self._slots else 0

    def marked(self, slot: int) -> bool:
        """Whether bytes of the connection were in the memory of the process that kept it."""
        up, down, _ = _LAYOUT.unpack_from(self.page, slot * SLOT)
        return bool(up or down)

    def close(self) -> None:
        """Unmap; the memory lives on with whoever else holds the descriptor."""
        self.page.close()
        os.close(self.fd)
