"""Clients of every kind."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.sim.network import connect
from tests.sim.talk import HEAD, Talk

if TYPE_CHECKING:
    from tests.sim.world import World

ASKS, UPLOADS, DOWNLOADS, HALF_CLOSES, WATCHES, LEAVES, SAYS_NOTHING, READS_SLOWLY, READS_NEVER, STUTTERS = (
    "asks", "uploads", "downloads", "half-closes", "watches", "leaves", "says nothing", "reads slowly", "reads never",
    "stutters",
)  # fmt: skip
KINDS = (ASKS, UPLOADS, DOWNLOADS, HALF_CLOSES, WATCHES, LEAVES, SAYS_NOTHING, READS_SLOWLY, READS_NEVER, STUTTERS)

_UNREAD = 40.0
"""Seconds for which one that reads never does not, if it is there for so long."""


class Client:
    """Somebody who connects, says who it is (as a TLS client or not), and goes on after its kind."""

    def __init__(self, world: World, number: int, kind: str, tls: bool) -> None:
        self.world, self.number, self.kind, self.tls = world, number, kind, tls
        rng = world.rng
        self.want = rng.choice((1, 100, 5000)) if kind in (ASKS, WATCHES, LEAVES, HALF_CLOSES) else 1
        if kind in (DOWNLOADS, READS_SLOWLY, READS_NEVER):
            self.want = rng.choice((150_000, 500_000))
        self.upload = rng.choice((150_000, 500_000)) if kind == UPLOADS else rng.choice((0, 50, 3000))
        if kind == LEAVES and rng.random() < 0.5:
            self.upload = 500_000
        self.rounds = rng.randint(3, 12) if kind == WATCHES else 1
        self.began = world.kernel.now
        self.first_byte_at = 0.0
        self.over_at = 0.0
        end = connect(world.kernel, "127.0.0.1", ("127.0.0.1", 6443))
        end.refs += 1
        self.peer = end.local
        self.talk = Talk(world, end, number, upward=True)
        self._greeted = self._pausing = False
        self.flight = 0
        """How many bytes say who it is."""
        end.told = self._news
        self._wait(world.rng.uniform(0.0, 0.02), self._news)

    @property
    def expected(self) -> int:
        """How much there is to hear, if all is said."""
        return self.want + self.talk.said + self.talk.pending

    def _wait(self, seconds: float, call: object) -> None:
        self.world.kernel.later(seconds, call)  # type: ignore[arg-type]

    def _news(self) -> None:
        talk = self.talk
        if self.over_at:
            return
        if talk.end.gone:
            talk.was_reset = True
            self._over()
            return
        if not talk.end.connected:
            return
        if not self._greeted:
            self._greet()
        if self.kind == READS_NEVER and self.world.kernel.now < self.began + _UNREAD:
            return
        if self.kind == READS_SLOWLY:
            self._read_slowly()
        else:
            talk.listen()
        self._heard()

    def _greet(self) -> None:
        self._greeted = True
        if self.kind == SAYS_NOTHING:
            self._wait(self.world.rng.uniform(5, 60), self._leave)
            return
        head = HEAD.pack(b"ID", self.number, self.want)
        if self.tls:
            body = b"\x03\x03" + head.ljust(32, b"\0") + b"\0\0\x02\x13\x01\x01\0"
            head = (
                b"\x16\x03\x01" + struct.pack("!H", len(body) + 4) + b"\x01" + struct.pack("!I", len(body))[1:] + body
            )
        self.flight = len(head)
        if self.kind == STUTTERS:
            self.talk.end.write(head[:-7])
            self._wait(self.world.rng.uniform(0.0, 1.0), lambda: self._say_rest(head[-7:]))
            return
        self.talk.end.write(head)
        if not self.tls or self.kind in (HALF_CLOSES, LEAVES):
            self._say_more()
        if self.kind == LEAVES:
            self._wait(self.world.rng.uniform(0.0, 2.0), self._break_off)
        if self.kind == READS_NEVER:
            self._wait(self.world.rng.uniform(20, 60), self._break_off)
            self._wait(_UNREAD, self._news)

    def _say_rest(self, rest: bytes) -> None:
        if not self.over_at and not self.talk.end.gone:
            self.talk.end.write(rest)
            if not self.tls:
                self._say_more()

    def _say_more(self) -> None:
        self.talk.say(self.upload)
        self.upload = 0
        if self.kind == HALF_CLOSES:
            self._finish_when_said()

    def _finish_when_said(self) -> None:
        if self.talk.pending and not self.talk.was_reset:
            self._wait(0.05, self._finish_when_said)
        else:
            self.talk.finish()

    def _read_slowly(self) -> None:
        """Read a little, and nothing for a while, whatever arrives meanwhile."""
        if not self._pausing and self.talk.listen(16_000) and not self.over_at:
            self._pausing = True
            self._wait(0.4, self._read_on)

    def _read_on(self) -> None:
        self._pausing = False
        self._news()

    def _heard(self) -> None:
        talk = self.talk
        if talk.heard and not self.first_byte_at:
            self.first_byte_at = self.world.kernel.now
            if self.tls and self.upload:
                self._say_more()
        if talk.was_reset or talk.closed:
            self._over()
        elif talk.heard >= self.expected and not talk.pending and self._greeted and not self.upload:
            self.rounds -= 1
            if self.rounds > 0:
                self._wait(self.world.rng.uniform(0.5, 15), self._again)
                self.rounds = self.rounds if self.kind == WATCHES else 0
            elif self.kind != HALF_CLOSES:
                talk.finish()

    def _again(self) -> None:
        if not self.over_at:
            self.talk.say(self.world.rng.choice((1, 500, 20_000)))
            self._news()

    def _leave(self) -> None:
        if not self.over_at:
            self.talk.finish()

    def _break_off(self) -> None:
        if not self.over_at:
            self.talk.reset()
            self._over()

    def _over(self) -> None:
        self.over_at = self.world.kernel.now
        self.world.client_over(self)
        if not self.talk.resets and not self.talk.was_reset:
            self.talk.end.refs -= 1
            self.talk.end.released()
