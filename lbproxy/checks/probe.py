"""One question to one server: a TCP connect, a TLS handshake or an HTTP GET. What comes of it is for `answer` to judge.

An apiserver logs every connection that ends within the handshake (kubernetes #70411), so a question ends politely: a
`tls` one with close_notify, an HTTP connection is kept, and a `tcp` one is reset before its handshake's last ACK has
left, so that the server never gets to see it.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

import h11

from lbproxy import __version__
from lbproxy.balance.checked import CheckResult
from lbproxy.balance.server import Endpoint
from lbproxy.balance.state import State
from lbproxy.checks.answer import NotAsked, judge, judge_failure, plain, printable
from lbproxy.checks.stream import Stream
from lbproxy.config.model import HealthConfig
from lbproxy.errors import LbproxyError

_LONGEST_ANSWER: Final = 65536
"""Bytes read of an answer; whatever its end may be, the status has come before."""


@dataclass(slots=True)
class _Kept:
    """A connection and where HTTP stands on it; `received` counts the bytes of the answer at hand."""

    endpoint: Endpoint
    stream: Stream
    http: h11.Connection
    received: int = 0


class Probe:
    """Asks one server what `health` says. `host` is its `host:port`, for the Host header, SNI and the certificate.

    Raises LbproxyError if a certificate file cannot be used. `ask` is for one caller at a time.
    """

    def __init__(self, health: HealthConfig, host: str) -> None:
        self.host = host
        self._health = health
        self._name = health.server_name or host.rpartition(":")[0].strip("[]").rstrip(".")
        self._tls = _context(health, self._name) if health.type in ("tls", "https") else None
        self._stage = ""
        self._stream: Stream | None = None
        self._kept: _Kept | None = None

    async def ask(self, endpoint: Endpoint, fresh: bool = False) -> CheckResult | NotAsked:
        """Ask the server at `endpoint` (address family, socket address), within `health.timeout` seconds.

        HTTP goes over the connection of the last question if it still stands, unless `fresh`.
        """
        try:
            async with asyncio.timeout(self._health.timeout):
                return await self._question(endpoint, fresh)
        except OSError as error:
            self.close()
            return judge_failure(error, self._stage, self._health.timeout)
        except h11.RemoteProtocolError as error:
            self.close()
            return CheckResult(State.DOWN, f"no HTTP answer: {printable(str(error))}", "protocol")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection of the last question."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._kept = None

    async def _question(self, endpoint: Endpoint, fresh: bool) -> CheckResult:
        match self._health.type:
            case "tcp":
                stream = await self._open(endpoint, silent=True)
                stream.close()
                return CheckResult(State.UP, "port open", "ok")
            case "tls":
                stream = await self._open(endpoint)
                stream.leave()
                return CheckResult(State.UP, "TLS handshake done", "ok")
        kept = self._kept
        if kept is not None and not fresh and kept.endpoint == endpoint:
            kept.received = 0
            try:
                return await self._get(kept)
            except OSError as error:
                # Closed by the server while it was kept, which any server may do at any time.
                if kept.received or isinstance(error, TimeoutError):
                    raise
        stream = await self._open(endpoint)
        self._kept = _Kept(endpoint, stream, h11.Connection(h11.CLIENT))
        return await self._get(self._kept)

    async def _open(self, endpoint: Endpoint, silent: bool = False) -> Stream:
        self.close()
        self._stage = "connect"
        self._stream = stream = await Stream.connect(endpoint, silent)
        if self._tls is not None:
            self._stage = "TLS handshake"
            await stream.shake_hands(self._tls, self._name)
        return stream

    async def _get(self, kept: _Kept) -> CheckResult:
        self._stage = "HTTP"
        http = kept.http
        headers = [("Host", self.host), ("User-Agent", f"lbproxy/{__version__}"), ("Accept", "*/*"),
                   ("Connection", "keep-alive")]  # fmt: skip
        request = h11.Request(method="GET", target=self._health.path, headers=headers)
        await kept.stream.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        status, body = 0, bytearray()
        while kept.received < _LONGEST_ANSWER:
            event = http.next_event()
            if event is h11.NEED_DATA:
                data = await kept.stream.read()
                if not data and not kept.received:
                    raise ConnectionAbortedError("closed without an answer")
                kept.received += len(data)
                http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        if not status:
            raise ConnectionAbortedError("no end of what is not an answer")
        if http.our_state is h11.DONE and http.their_state is h11.DONE and http.trailing_data == (b"", False):
            http.start_next_cycle()
        else:
            self.close()
        return judge(status, bytes(body))


def _context(health: HealthConfig, name: str) -> ssl.SSLContext:
    """Return what TLS needs; raises LbproxyError that names the key whose value cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not health.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    place = f"health.ca_file {health.ca_file}"
    try:
        if health.ca_file:
            context.load_verify_locations(health.ca_file)
        elif health.verify:
            context.load_default_certs()
        if health.cert_file:
            place = f"health.cert_file {health.cert_file} with key_file {health.key_file}"
            context.load_cert_chain(health.cert_file, health.key_file, password="")  # else OpenSSL asks for it
        place = f"health.server_name {name}"
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (OSError, ValueError) as error:
        raise LbproxyError(f"{place}: {plain(error)}") from None
    return context
