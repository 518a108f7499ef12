"""Socket options and addresses; the kernel is asked what it has understood."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from pathlib import Path

import pytest

from lbproxy.config.model import Address, Keepalive
from lbproxy.errors import BindError, YieldError
from lbproxy.net import sockets as socks
from tests.support.need import need
from tests.support.ports import free_port


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("::ffff:10.0.0.1", socket.AF_INET6),
     ("localhost", 0), ("10.0.0", 0), ("010.0.0.1", 0), ("1", 0), ("", 0), ("m1.example", 0)],
)  # fmt: skip
def test_only_an_ip_address_written_in_full_has_a_family(host: str, family: int) -> None:
    """What inet_aton would take for an address is a name here, as getaddrinfo and people differ about it."""
    assert socks.family_of(host) == family


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("fe80::1", "[fe80::1]:80")]
)
def test_a_socket_address_is_shown_as_it_is_written_in_the_configuration(host: str, shown: str) -> None:
    """Status, log and configuration name an address alike."""
    assert socks.name(socks.sockaddr(host, 80)) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_has_what_its_connections_inherit(host: str) -> None:
    """Set once, it costs nothing on each connection."""
    if ":" in host:
        need("ipv6")
    with contextlib.closing(socks.listen("p", Address(host, free_port()))) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert not os.get_inheritable(sock.fileno())
        assert not sock.getblocking()
        if host == "::1":
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_without_descriptors_listening_is_refused_like_any_other_bind() -> None:
    """In one line and not with a traceback; so is IPv6 on a kernel that has none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    with contextlib.ExitStack() as fillers:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.enter_context(socket.socket())
            with pytest.raises(BindError, match=r"^p: cannot listen on 127.0.0.1:9: Too many open files$"):
                socks.listen("p", Address("127.0.0.1", 9))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_server_connection_is_watched_over_as_configured() -> None:
    """Keepalive, in the kernel's own units; TCP_USER_TIMEOUT would cut those that are just slow."""
    with socket.socket() as sock:
        socks.harden(sock, Keepalive(idle=7, interval=1.4, count=5))
        assert [
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        ] == [7, 1, 5, 0]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_hardening_a_socket_that_is_gone_is_no_error() -> None:
    """It may be reset at any moment; who reads it hears of that."""
    sock = socket.socket()
    sock.close()
    socks.harden(sock, Keepalive())
    assert sock.fileno() == -1


def test_whether_bytes_wait_is_told_without_taking_them() -> None:
    """Neither an empty socket, nor a FIN, nor a closed one counts as bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not socks.has_data(ours)
        theirs.send(b"x")
        theirs.shutdown(socket.SHUT_WR)
        assert socks.has_data(ours)
        assert ours.recv(10) == b"x"
        assert not socks.has_data(ours)
    assert not socks.has_data(ours)


def test_a_port_that_this_process_has_everywhere_is_not_another_programs() -> None:
    """A reload from 0.0.0.0 to 127.0.0.1 is refused as what it is, and not left to a kube-apiserver."""
    port = free_port()
    with contextlib.closing(socks.listen("p", Address("0.0.0.0", port))):
        with pytest.raises(BindError, match="while this process listens") as refused:
            socks.listen("p", Address("127.0.0.1", port))
        assert not isinstance(refused.value, YieldError)
