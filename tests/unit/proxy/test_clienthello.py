"""What counts as one ClientHello: real ones of several clients, and every way of not being one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbproxy.proxy.clienthello import LIMIT, Hello, classify
from tests.support.certs import Certs
from tests.support.need import need
from tests.support.ports import free_port, listening
from tests.support.wait import FACTOR, until


def python_hello(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, name: str = "kubernetes.default.svc") -> bytes:
    """Return what Python's ssl (OpenSSL) says first."""
    context = ssl.create_default_context()
    context.maximum_version = newest
    context.set_alpn_protocols(["h2", "http/1.1"])
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def built(*extensions: tuple[int, bytes], size: int = 0) -> bytes:
    """Return a ClientHello message without its record, padded to `size` bytes."""
    if size:
        rest = size - len(built(*extensions, (21, b"")))
        extensions = (*extensions, (21, bytes(rest)))
    inner = b"".join(kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for kind, value in extensions)
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + len(inner).to_bytes(2, "big") + inner
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message: bytes, *cuts: int) -> bytes:
    """Return `message` in records that begin at 0 and at each of `cuts`."""
    pieces = [message[at:end] for at, end in zip((0, *cuts), (*cuts, len(message)), strict=True)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


HELLOS = {
    "python TLS 1.3": python_hello(),
    "python TLS 1.2": python_hello(ssl.TLSVersion.TLSv1_2),
    "no extensions": records(b"\x01\0\0\x29\x03\x01" + bytes(32) + b"\0" + b"\0\2\0\x2f" + b"\1\0"),
    "three records": records(built((0, b"\0\7\0\0\4name")), 1, 30),
    "post-quantum size": records(built((51, bytes(1200)), (43, b"\2\3\4"))),
    "as long as may be": records(built(size=LIMIT - 5)),
}


@pytest.mark.parametrize("name", HELLOS)
def test_a_client_hello_is_complete_and_each_of_its_beginnings_is_partial(name: str) -> None:
    """However the network cuts it up."""
    hello = HELLOS[name]
    assert classify(hello) is Hello.COMPLETE
    beginnings = range(len(hello)) if len(hello) < 2000 else [*range(100), *range(100, len(hello), 97), len(hello) - 1]
    assert {end for end in beginnings if classify(hello[:end]) is not Hello.PARTIAL} == set()


@pytest.mark.parametrize("name", HELLOS)
def test_anything_behind_a_client_hello_makes_it_something_else(name: str) -> None:
    """What follows was said without waiting for an answer: another record, or a byte within the last one."""
    hello = HELLOS[name]
    assert {classify(hello + bytes([byte])) for byte in range(256)} == {Hello.OTHER}
    assert classify(hello + b"\x14\x03\x03\0\1\1") is Hello.OTHER
    assert classify(hello * 2) is Hello.OTHER


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x80\x2e\x01\x03\x01",
        b"\x15\x03\x01\0\2\2\x28",
        b"\x16\x02",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\0\x10\x02",
        records(built((42, b""))),
        records(built((0, b"x"), (42, b""), (41, bytes(50)))),
        records(built() + b"\0"),
        records(built(size=LIMIT - 4)),
        records(b"\x01\xff\xff\xff" + bytes(100)),
        records(built())[:9] + b"\xff" * (len(built()) - 4),
        records(built((0, b"x"))[:-1] + b"\0\0")[:-1],
        records(built(), 20)[:25] + b"\x17\x03\x03\0\1x",
        b"\x16\x03\x01\x40\0\x01\0\x3f\xf0" + bytes(LIMIT),
    ],
    ids=["http", "ssh", "sslv2", "alert", "version 2", "empty record", "too long a record", "server hello",
         "early data", "early data and psk", "trailing byte in the record", "a byte too long", "16 MiB", "nonsense",
         "cut extension", "another record within", "more than the limit"],
)  # fmt: skip
def test_anything_else_is_other(data: bytes) -> None:
    """Another protocol, early data, broken framing and what is too long are never sent twice."""
    assert classify(data) is Hello.OTHER


def test_nothing_can_still_become_a_client_hello() -> None:
    """No byte yet is the beginning of everything."""
    assert classify(b"") is Hello.PARTIAL


def test_a_record_that_announces_more_than_its_message_is_other_at_once() -> None:
    """Waiting for the rest of it would be in vain."""
    message = built()
    data = b"\x16\x03\x01" + (len(message) + 1).to_bytes(2, "big") + message[:10]
    assert classify(data) is Hello.OTHER


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: b"\x16\x03\x01" + tail))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    """A client may send anything."""
    assert classify(data) in Hello


@given(
    st.sampled_from(sorted(HELLOS)), st.integers(0, LIMIT), st.integers(0, 255), st.integers(0, LIMIT),
)  # fmt: skip
def test_a_damaged_client_hello_never_raises_and_its_verdict_is_final(name: str, at: int, byte: int, end: int) -> None:
    """A byte changed anywhere, cut anywhere: what is OTHER once is never anything else with more bytes."""
    hello = HELLOS[name]
    at %= len(hello)
    data = hello[:at] + bytes([byte]) + hello[at + 1 :]
    if classify(data[:end]) is Hello.OTHER:
        assert classify(data) is Hello.OTHER
    else:
        assert classify(data[:end]) in (Hello.PARTIAL, Hello.COMPLETE)


@given(st.lists(st.integers(1, 90), max_size=5, unique=True).map(sorted))
def test_where_the_records_are_cut_makes_no_difference(cuts: list[int]) -> None:
    """A message may be spread over records in any way."""
    assert classify(records(built((0, bytes(60))), *cuts)) is Hello.COMPLETE


class Capture:
    """A port that keeps what its one client sends first."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(10 * FACTOR)
        self.port: int = self._socket.getsockname()[1]

    def first_flight(self) -> bytes:
        """Accept, return the first flight, close."""
        with self._socket, self._socket.accept()[0] as client:
            client.settimeout(10 * FACTOR)
            data = client.recv(65536)
            while classify(data) is Hello.PARTIAL and (more := client.recv(65536)):
                data += more
            return data


@contextlib.contextmanager
def running(*command: str | Path) -> Iterator[None]:
    """Run a program that waits for its stdin, and kill it."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:  # fmt: skip
        try:
            yield
        finally:
            child.kill()


def first_flight_of(*command: str | Path) -> bytes:
    """Return what `command` says first; PORT in it is the port to talk to."""
    capture = Capture()
    with running(*(str(word).replace("PORT", str(capture.port)) for word in command)):
        return capture.first_flight()


@pytest.mark.parametrize(
    "command",
    [
        "curl -sk https://localhost:PORT/ --noproxy * -4",
        "curl -sk https://127.0.0.1:PORT/ --noproxy * --tlsv1.2 --tls-max 1.2",
        "openssl s_client -connect 127.0.0.1:PORT -alpn h2",
        "openssl s_client -connect 127.0.0.1:PORT -tls1_2 -servername m1.example",
    ],
)
def test_other_clients_say_one_client_hello(command: str) -> None:
    """Real programs, as they come."""
    need(command.split()[0])
    assert classify(first_flight_of(*command.split())) is Hello.COMPLETE


def test_resumption_is_complete_and_early_data_is_other(tmp_path: Path, certs: Certs) -> None:
    """A ticket may be shown to another server, which then does a full handshake; a request sent early may not."""
    need("openssl")
    session, request = tmp_path / "session", tmp_path / "request"
    request.write_bytes(b"GET / HTTP/1.0\r\n\r\n")
    port = free_port()
    client = ("openssl", "s_client", "-tls1_3", "-connect")
    server = ("openssl", "s_server", "-tls1_3", "-early_data", "-accept", f"127.0.0.1:{port}", "-cert", certs.server,
              "-key", certs.server)  # fmt: skip
    with running(*server):
        until(lambda: port in listening(), "openssl s_server listens")
        with running(*client, f"127.0.0.1:{port}", "-sess_out", session):
            until(lambda: session.exists() and session.read_text().endswith("-\n"), "a ticket has come")
    again = (*client, "127.0.0.1:PORT", "-sess_in", session)
    assert classify(first_flight_of(*again)) is Hello.COMPLETE
    early = first_flight_of(*again, "-early_data", request)
    whole = 5 + int.from_bytes(early[3:5], "big")
    assert classify(early[: whole - 1]) is Hello.PARTIAL
    assert classify(early[:whole]) is Hello.OTHER
    assert classify(early) is Hello.OTHER
