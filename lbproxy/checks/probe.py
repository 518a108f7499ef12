"""One question to one server: a TCP connect, a TLS handshake or an HTTP GET. What comes of it is for `answer` to judge.

HTTP goes over a kept connection. When half of the time is over without an answer on it, a new one is made beside it,
TLS included: so a server that is late is told from one that is gone, in the same time. The kernel of a stopped process
still accepts connections, but nobody there does TLS.

A new connection costs a server far more than an answer, and one that is late is made later by it. So where a question
decides nothing yet no new one is made and the kept one stays, whose late answer is waited for before it is asked again.
A handshake that is not done in time is gone on with by the next question. Before a new connection is made in the usual
course of things, the kept one has to answer: that the new one is late says sick at worst, then.

An apiserver logs every connection that ends within the handshake (kubernetes #70411), so a question ends politely: a
`tls` one with close_notify, an HTTP connection is kept, and a `tcp` one is reset before its handshake's last ACK has
left, so that the server never gets to see it.
"""

from __future__ import annotations

import asyncio
from dataclasses import field
from time import monotonic
from typing import Final

import h11

from lbproxy import __version__
from lbproxy.balance.checked import NEVER, CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.balance.state import State
from lbproxy.checks.answer import NotAsked, judge, judge_failure, printable
from lbproxy.checks.certificate import expiry
from lbproxy.checks.secure import Secure, name_for
from lbproxy.checks.stream import Stream
from lbproxy.config.model import HealthConfig
from lbproxy.record import dataclass

_WAITED: Final = 10.0
"""Seconds for which an answer is waited for by one question after another."""
_LONGEST_ANSWER: Final = 65536
"""Bytes read of an answer; whatever its end may be, the status has come before."""


@dataclass(slots=True)
class _Kept:
    """A connection and where HTTP stands on it, with what has come of the answer at hand."""

    endpoint: Endpoint
    stream: Stream
    http: h11.Connection
    asked_at: float = NEVER
    """When the question was sent whose answer has not come; NEVER with none open."""
    stale: bool = False
    """Whether the answer that is to come is that to an earlier question."""
    received: int = 0
    """Bytes."""
    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    def given_up(self) -> bool:
        """Whether the answer has been waited for long enough: what is there to carry it may be gone."""
        return monotonic() - self.asked_at > _WAITED


@dataclass(slots=True)
class _Begun:
    """A connection whose handshake is not done yet."""

    endpoint: Endpoint
    stream: Stream
    at: float


class Probe:
    """Asks one server what `health` says. `host` is its `host:port`, for the Host header, SNI and the certificate.

    `preface` is sent first on each connection: a PROXY header, where the server expects one. Raises LbproxyError if a
    certificate file cannot be used. `ask` is for one caller at a time.
    """

    def __init__(self, health: HealthConfig, host: str, preface: bytes = b"") -> None:
        self.host = host
        self.certificate_expires = 0.0
        """Unix time at which the certificate that the server has shown last ends; 0 if none was seen."""
        self._health = health
        self._preface = preface
        self._name = name_for(health, host)
        self._secure = Secure.of(health) if health.secure else None
        self._generation = 0
        if self._secure is not None:
            self._secure.check_name(self._name)
            self._generation = self._secure.generation
        self._stage = ""
        self._alive = False
        """Whether it lives, as the question at hand has shown: a new connection was made, or the kept one answered."""
        self._spared = False
        """Whether the kept connection outlives that the question at hand has no answer in time."""
        self._stream: Stream | None = None
        self._kept: _Kept | None = None
        self._begun: _Begun | None = None

    async def ask(self, endpoint: Endpoint, fresh: bool = False, decides: bool = True) -> CheckResult | NotAsked:
        """Ask the server at `endpoint` (address family, socket address), within `health.timeout` seconds.

        HTTP goes over the connection of the last question if it still stands, and when `fresh` over a new one after
        that. With `decides` False nothing follows yet from an answer that is late.
        """
        if self._secure is not None:
            await self._secure.renew()
            if self._generation != self._secure.generation:
                self._generation = self._secure.generation
                self.close()
        self._alive = self._spared = False
        try:
            async with asyncio.timeout(self._health.timeout):
                return await self._question(endpoint, fresh, decides)
        except OSError as error:
            if not (self._spared and isinstance(error, TimeoutError)):
                self._let_go()
            elif self._kept is not None:
                self._kept.stale = self._kept.asked_at < NEVER
            return judge_failure(error, self._stage, self._health.timeout, self._alive)
        except h11.RemoteProtocolError as error:
            self._let_go()
            return CheckResult(State.DOWN, f"no HTTP answer: {printable(str(error))}", "protocol")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close what connections there are."""
        self._let_go()
        self._abandon()

    def _let_go(self) -> None:
        """Close the connection of the last question."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._kept = None

    async def _question(self, endpoint: Endpoint, fresh: bool, decides: bool) -> CheckResult:
        match self._health.type:
            case "tcp":
                stream = await self._open(endpoint, silent=True)
                stream.close()
                return CheckResult(State.UP, "port open", "ok")
            case "tls":
                stream = await self._open(endpoint)
                stream.leave()
                return CheckResult(State.UP, "TLS handshake done", "ok")
            case "http" | "https":
                return await self._ask_http(endpoint, fresh, decides)

    async def _ask_http(self, endpoint: Endpoint, fresh: bool, decides: bool) -> CheckResult:
        kept = self._kept
        if kept is not None and kept.endpoint == endpoint and not kept.given_up():
            try:
                answer = await self._get(kept, decides)
                if not fresh:
                    return answer
                self._alive = self._spared = True
            except OSError as error:
                # Closed by the server while it was kept, which any server may do at any time.
                if kept.received or self._alive or isinstance(error, TimeoutError):
                    raise
        stream = await self._open(endpoint)
        self._spared = False
        self._kept = kept = _Kept(endpoint, stream, h11.Connection(h11.CLIENT))
        await self._send(kept)
        return await self._receive(kept)

    async def _open(self, endpoint: Endpoint, silent: bool = False) -> Stream:
        if self._secure is None:
            stream = await self._connect(endpoint, silent)
        else:
            stream = await self._shake_hands(endpoint, self._secure)
        self._let_go()
        self._stream = stream
        return stream

    async def _shake_hands(self, endpoint: Endpoint, secure: Secure) -> Stream:
        """Return a new connection over TLS, be it one that an earlier question has begun."""
        begun = self._begun
        if begun is not None and (begun.endpoint != endpoint or monotonic() - begun.at > _WAITED):
            self._abandon()
        elif begun is not None:
            try:
                return await self._finish(begun, secure)
            except OSError:
                pass  # it has ended meanwhile: what is there now is what the question is about
        self._stage = "connect"
        stream = await Stream.connect(endpoint)
        self._begun = begun = _Begun(endpoint, stream, monotonic())
        if self._preface:
            await stream.write(self._preface)
        return await self._finish(begun, secure)

    async def _finish(self, begun: _Begun, secure: Secure) -> Stream:
        self._stage = "TLS handshake"
        try:
            await begun.stream.shake_hands(secure.context, self._name)
        except OSError:
            self._abandon()
            raise
        self._begun = None
        self._alive = True
        self.certificate_expires = expiry(begun.stream.certificate())
        return begun.stream

    def _abandon(self) -> None:
        """Close what has been begun."""
        if self._begun is not None:
            self._begun.stream.close()
            self._begun = None

    async def _connect(self, endpoint: Endpoint, silent: bool = False) -> Stream:
        self._stage = "connect"
        stream = await Stream.connect(endpoint, silent)
        try:
            if self._preface and not silent:
                await stream.write(self._preface)
            if self._secure is not None:
                self._stage = "TLS handshake"
                await stream.shake_hands(self._secure.context, self._name)
                self.certificate_expires = expiry(stream.certificate())
        except BaseException:
            stream.close()
            raise
        self._alive = True
        return stream

    async def _get(self, kept: _Kept, decides: bool) -> CheckResult:
        """Ask over a kept connection; if it is long in coming, see whether the server takes new ones."""
        if not decides:
            self._spared = True
            return await self._answer(kept)
        try:
            async with asyncio.timeout(self._health.timeout / 2):
                return await self._answer(kept)
        except TimeoutError:
            beside = await self._connect(kept.endpoint, silent=self._secure is None)
            beside.leave()
            try:
                return await self._answer(kept)
            finally:
                beside.close()

    async def _answer(self, kept: _Kept) -> CheckResult:
        """Return what the answer means that comes over a kept connection; may be left and called again."""
        self._stage = "HTTP"
        if kept.stale:
            await self._receive(kept)
            kept.stale, kept.received = False, 0
            if self._kept is not kept:
                raise ConnectionAbortedError("closed behind a late answer")
            self._alive = True
        if kept.asked_at == NEVER:
            await self._send(kept)
        return await self._receive(kept)

    async def _send(self, kept: _Kept) -> None:
        self._stage = "HTTP"
        kept.asked_at = monotonic()
        kept.received, kept.status, kept.body = 0, 0, bytearray()
        http = kept.http
        headers = [("Host", self.host), ("User-Agent", f"lbproxy/{__version__}"), ("Accept", "*/*"),
                   ("Connection", "keep-alive")]  # fmt: skip
        request = h11.Request(method="GET", target=self._health.path, headers=headers)
        await kept.stream.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))

    async def _receive(self, kept: _Kept) -> CheckResult:
        """Return what the answer means; may be left and called again."""
        self._stage = "HTTP"
        http = kept.http
        while kept.received < _LONGEST_ANSWER:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await kept.stream.read()
                if not data and not kept.received:
                    raise ConnectionAbortedError("closed without an answer")
                kept.received += len(data)
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                kept.status = event.status_code
            elif isinstance(event, h11.Data):
                kept.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        kept.asked_at = NEVER
        if not kept.status:
            raise ConnectionAbortedError("no end of what is not an answer")
        if http.our_state is h11.DONE and http.their_state is h11.DONE and http.trailing_data == (b"", False):
            http.start_next_cycle()
        else:
            self._let_go()
        return judge(kept.status, bytes(kept.body))
