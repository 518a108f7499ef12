"""What the kernel knows of a TCP connection (struct tcp_info, linux/tcp.h), asked when somebody wants to know.

A peer that reads nothing and one that is gone look alike from above: nothing moves. The kernel can tell them apart.
What it sends again and again, data or probes of a closed window or of keepalive, a living peer acknowledges, however
little it reads. (Not each time: Linux answers two probes a second at most, so that one unanswered means nothing yet.)
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from lbproxy.net.contract import Socket

_INFO: Final = struct.Struct("=2xBB20xI16xI4xII")
"""retransmits at 2, probes at 3, unacked at 24, last_data_sent at 44, last_data_recv at 52, last_ack_recv at 56."""
_SIZE: Final = _INFO.size
_REPEATED: Final = 2
"""Repetitions without an answer that mean something."""
IN_VAIN: Final = 0.6
"""Seconds that data has been on the way at least when it was repeated so often, by Linux' shortest timeouts."""
UNDER_WAY: Final = 0.2
"""Seconds in which an answer comes if there is one: Linux' shortest timeout (TCP_RTO_MIN)."""


def quiet(sock: Socket) -> float:
    """Return the seconds since `sock` last carried a byte of data, either way. Raises OSError."""
    _, _, _, sent, received, _ = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))
    return float(min(sent, received)) / 1000


def heard(sock: Socket) -> float:
    """Return the seconds since `sock` last received a byte of data. Raises OSError."""
    return float(_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))[4]) / 1000


def unanswered(sock: Socket) -> float:
    """Return the seconds since the peer last acknowledged anything, if it was asked in vain at least twice since.

    0.0 while it answers, and while there is nothing that it should answer. The last question may have been asked this
    very moment: who acts on nothing else looks once more, UNDER_WAY later. Raises OSError.
    """
    again, probes, unacked, _, _, heard = _INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))
    if (unacked and again >= _REPEATED) or probes >= _REPEATED:
        return float(heard) / 1000
    return 0.0


def backlog(listener: Socket) -> int:
    """Return how many connections wait to be accepted: of a listening socket, it is what stands for `unacked`."""
    return int(_INFO.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE))[2])
