"""How connections end whose sockets somebody else holds too."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from lbproxy.net.closing import close, end_shared, reset
from tests.unit.relay.hand import Bench, ended, take


@pytest.mark.parametrize(("abort", "seen"), [(False, "fin"), (True, "rst")])
@pytest.mark.parametrize("lingers", [False, True], ids=["plain", "lingers"])
def test_the_peer_sees_the_end_although_the_socket_stays_open(
    bench: Bench, abort: bool, seen: str, lingers: bool
) -> None:
    """A close alone would do nothing while another process has the descriptor."""
    far, near = bench.pair()
    if lingers:
        reset(near)  # as every kept connection does
    other = bench.keep(near.dup())
    end_shared(near, abort)
    near.close()
    bench.loop.until(lambda: ended(far) != "open")
    assert ended(far) in (seen, "fin")  # a reset is told once
    other.close()


def test_an_orderly_end_loses_no_bytes_on_their_way(bench: Bench) -> None:
    """A kept connection would be reset by its last close; one that has ended well is not."""
    far, near = bench.pair()
    reset(near)
    other = near.dup()
    near.sendall(b"last words")
    end_shared(near, abort=False)
    near.close()
    other.close()
    assert take(far) == b"last words"
    assert ended(far) == "fin"


def test_a_kept_connection_that_nobody_takes_is_reset(bench: Bench) -> None:
    """A FIN would tell the peer that the stream is whole."""
    far, near = bench.pair()
    reset(near)
    near.close()
    assert ended(far) == "rst"


@pytest.mark.parametrize("abort", [False, True])
def test_one_that_is_gone_already_is_no_error(bench: Bench, abort: bool) -> None:
    """The other end may always be faster."""
    far, near = bench.pair()
    reset(far)
    far.close()
    reset(near)
    end_shared(near, abort)
    with pytest.raises(OSError, match=r"not connected|reset"):
        near.send(b"x")


class Refusing(socket.socket):
    """A socket of which nothing can be set, and whose close is told to have failed."""

    def setsockopt(self, *_: object) -> None:  # type: ignore[override]
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def close(self) -> None:
        super().close()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_reset_is_one_although_it_cannot_be_set(bench: Bench) -> None:
    """A close would send FIN, and the peer take what it has for the whole."""
    far, near = bench.pair()
    refusing = Refusing(fileno=near.detach())
    reset(refusing)
    close(refusing)
    bench.loop.until(lambda: ended(far) != "open")
    assert refusing.fileno() == -1
