"""What is said on a connection: every byte says whose it is and where it belongs, and each end counts what it says."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from tests.sim.tcp import Endpoint

if TYPE_CHECKING:
    from tests.sim.world import World

_BLOCK = 251
_MOST = 65536
HEAD = struct.Struct("!2sII")
"""What a client says first: a word, who it is, and how much it wants to hear."""
_HELLO = 5 + 4 + 2 + 32
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
_PREFACE = struct.Struct("!16s4s4xH2x")
"""PROXY v2, of a client with an IPv4 address."""


def pattern(key: int, offset: int, size: int) -> bytes:
    """Return bytes of the endless stream of that key."""
    start = offset % _BLOCK
    return _stream(key)[start : start + size]


@lru_cache(256)
def _stream(key: int) -> bytes:
    block = bytes((key * 7 + at * (key % 5 + 1)) % 256 for at in range(_BLOCK))
    return block * (_MOST // _BLOCK + 2)


class Talk:
    """What one end has said and heard on a connection."""

    def __init__(self, world: World, end: Endpoint, client: int, *, upward: bool) -> None:
        self.world, self.end, self.client = world, end, client
        self.said = self.heard = 0
        self.says, self.hears = (2 * client, 2 * client + 1) if upward else (2 * client + 1, 2 * client)
        self.closed = self.was_reset = self.finished = self.resets = self.greeted = False
        self.named: tuple[str, int] | None = None
        """Who the client is, as a PROXY header says."""
        self.began = world.kernel.now
        self.more_at = 0.0
        """When more than a client's first words had got here, 0 if no more has."""
        self.pending = 0

    def say(self, size: int) -> None:
        """Say so many more bytes, as they find room."""
        self.pending += size
        self._push()

    def _push(self) -> None:
        while self.pending and not self.resets and not self.was_reset:
            try:
                sent = self.end.write(pattern(self.says, self.said, min(self.pending, _MOST)))
            except BlockingIOError:
                return
            except OSError:
                self.was_reset = True
                return
            self.said += sent
            self.pending -= sent

    def listen(self, most: int = 1 << 20) -> int:
        """Take in what there is; returns how much."""
        self._push()
        taken = 0
        while taken < most and not self.closed and not self.was_reset and not self.resets:
            try:
                data = self.end.read(min(_MOST, most - taken))
            except BlockingIOError:
                break
            except OSError:
                self.was_reset = True
                break
            if not data:
                self.closed = True
                break
            if data != pattern(self.hears, self.heard, len(data)):
                self.world.wrong(f"client {self.client}: wrong bytes at {self.heard} of stream {self.hears}")
            self.heard += len(data)
            taken += len(data)
        return taken

    def finish(self) -> None:
        """Say that no more comes."""
        if not self.finished and not self.resets and not self.was_reset:
            self.finished = True
            try:
                self.end.finish()
            except OSError:
                self.was_reset = True

    def reset(self) -> None:
        """Break off."""
        if not self.resets:
            self.resets = True
            self.end.reset()


class First:
    """What has come first on a connection: who the client is, as lbproxy says it and as it says itself.

    `size` is how long that is with what stands around it, 0 while it is not whole; `bare`, whether nothing has come but
    what lbproxy says by itself.
    """

    def __init__(self, inbox: bytearray) -> None:
        self.named: tuple[str, int] | None = None
        self.head, self.size = b"", 0
        at = _PREFACE.size if inbox[:1] == _SIGNATURE[:1] else 0
        self.bare = len(inbox) <= at
        if at and len(inbox) >= at:
            signature, host, port = _PREFACE.unpack_from(inbox)
            self.named = (".".join(map(str, host)), port) if signature == _SIGNATURE else None
        said = inbox[at:]
        if said[:1] == b"\x16":
            size = 5 + int.from_bytes(said[3:5], "big") if len(said) >= _HELLO else 0
            self.head = bytes(said[11 : 11 + HEAD.size])
        else:
            size = HEAD.size
            self.head = bytes(said[: HEAD.size])
        if 0 < size <= len(said):
            self.size = at + size
