"""What an answer means: the table, row by row."""

from __future__ import annotations

import errno
import os
import ssl

import pytest

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.state import State
from lbproxy.checks.answer import NotAsked, judge, judge_failure

UP, SICK, DRAINING, DOWN = State.UP, State.SICK, State.DRAINING, State.DOWN
STOPPING = "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n"
ETCD = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"
MANY = "".join(f"[-]{name} failed: reason withheld\n" for name in ("etcd", "a/b", "c", "d", "e"))


@pytest.mark.parametrize(
    ("status", "body", "state", "reason", "kind"),
    [
        (200, "ok", UP, "200: ready", "ok"),
        (204, "", UP, "204: ready", "ok"),
        (299, "[-]etcd failed", UP, "299: ready", "ok"),
        (401, "", UP, "401: alive, wants a login", "http_401"),
        (403, "", UP, "403: alive, forbids the question", "http_403"),
        (429, "", UP, "429: alive, too busy to tell", "http_429"),
        (500, STOPPING, DRAINING, "500: [-]shutdown", "shutdown"),
        (503, STOPPING, DRAINING, "503: [-]shutdown", "shutdown"),
        (500, ETCD, SICK, "500: [-]etcd failed", "http_500"),
        (500, MANY, SICK, "500: [-]etcd, [-]a/b, [-]c and 2 more failed", "http_500"),
        (500, "[-]shutdown-hooks failed\n", SICK, "500: [-]shutdown-hooks failed", "http_500"),
        (500, "why not [-]shutdown", SICK, "500: why not [-]shutdown", "http_500"),
        (502, "\x1b[31mred\nmore", SICK, "502: ?[31mred", "http_502"),
        (503, "", SICK, "503: no reason given", "http_503"),
        (302, STOPPING, SICK, "302: neither ready nor not ready", "http_302"),
        (404, "", SICK, "404: neither ready nor not ready", "http_404"),
    ],
)
def test_an_answer_means_what_the_table_says(status: int, body: str, state: State, reason: str, kind: str) -> None:
    """The status decides, and for 5xx the names of the failing parts in the body."""
    sure = status not in (401, 403, 429)
    assert judge(status, body.encode()) == CheckResult(state, reason, kind, sure)


def error(number: int) -> OSError:
    """Return the error of that number, as a system call raises it."""
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("failure", "reason", "kind"),
    [
        (error(errno.ECONNREFUSED), "connection refused", "refused"),
        (error(errno.ECONNRESET), "connection reset by peer", "reset"),
        (error(errno.EPIPE), "broken pipe", "closed"),
        (error(errno.EHOSTUNREACH), "no route to host", "unreachable"),
        (error(errno.ENETUNREACH), "network is unreachable", "unreachable"),
        (error(errno.EPERM), "operation not permitted", "error"),
        (TimeoutError(), "no answer within 2s (HTTP)", "timeout"),
        (ConnectionAbortedError("closed without an answer"), "closed without an answer", "closed"),
        (ssl.SSLEOFError(8, "EOF occurred"), "TLS: closed during the handshake", "tls"),
        (ssl.SSLZeroReturnError(6, "closed (EOF)"), "TLS: closed during the handshake", "tls"),
    ],
)
def test_no_answer_is_down(failure: OSError, reason: str, kind: str) -> None:
    """Whatever the reason, which is told."""
    assert judge_failure(failure, "HTTP", 2.0) == CheckResult(DOWN, reason, kind)


def test_late_is_not_gone() -> None:
    """A server that makes new connections, TLS included, is sick at worst."""
    expected = CheckResult(SICK, "no answer within 2s (HTTP)", "timeout")
    assert judge_failure(TimeoutError(), "HTTP", 2.0, alive=True) == expected
    assert judge_failure(error(errno.ECONNRESET), "HTTP", 2.0, alive=True).reason == "connection reset by peer"


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "EAGAIN"])
def test_a_shortage_of_ours_says_nothing_of_the_server(name: str) -> None:
    """Else a node that has run out of descriptors or ports would declare every server dead."""
    number = getattr(errno, name)
    assert judge_failure(error(number), "connect", 2.0) == NotAsked(os.strerror(number).lower())
