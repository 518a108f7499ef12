"""A network of the bench's own: a namespace with nothing but loopback, and Linux' usual congestion control.

Why: packet filters and other traffic of the machine stay out of it; and where the machine uses BBR, every bulk stream
is paced by timers, in the sender's time. In a virtual machine that costs more than any proxy does, and so irregularly
that the rates of two runs differ twofold.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h
_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def enter() -> str:
    """Take this process, which has no other threads yet, and its children to come, into it; returns what to tell.

    Where that is not allowed all stays as it is: a child tries first, since half of it may be allowed.
    """
    if (child := os.fork()) == 0:
        try:
            _enter()
        except OSError:
            os._exit(1)
        os._exit(0)
    allowed = os.waitpid(child, 0)[1] == 0
    if allowed:
        _enter()
    return f"{'a namespace of its own' if allowed else 'that of the machine'}, {_CONTROL.read_text().strip()}"


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET | (_CLONE_NEWUSER if uid else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    for control in ("cubic", "reno"):  # a namespace may be denied all but reno; without loss they are the same
        try:
            _CONTROL.write_text(control)
        except OSError:
            continue
        break
