"""Puts the simulated kernel in the place of the real one, in this process and for good. Import it before lbproxy."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lbproxy.net.contract  # noqa: F401 (nothing of it makes a system call)
from tests.sim import calls, shims

sys.modules["lbproxy.net._syscalls"] = None  # type: ignore[assignment]  # which is not to be had: the plain form it is
sys.modules["lbproxy.net.plain"] = calls


def install() -> None:
    """Do it. Raises RuntimeError where lbproxy is compiled: nothing can be put in the place of its calls."""
    from lbproxy.handover import custody, fdqueue, inherit, keeper, marks, parcel, revive, sets
    from lbproxy.net import closing, pipes, poller, sockets, syscalls, timers
    from lbproxy.proxy import listener, rebalance
    from lbproxy.relay import bulk

    if syscalls.COMPILED or not poller.__file__.endswith(".py"):
        raise RuntimeError("the simulation needs the plain form: make uncompile")
    os, fcntl, mmap, socket = shims.Os(), shims.Fcntl(), shims.Mmap(), shims.Socket()
    for module in (pipes, bulk, fdqueue, parcel, marks, inherit, revive, keeper, sets, listener):
        vars(module)["os"] = os
    vars(pipes)["fcntl"] = fcntl
    vars(listener)["resource"] = shims.Resource()
    vars(marks)["mmap"] = mmap
    for module in (fdqueue, sets):
        vars(module)["socket"] = socket
    vars(inherit)["socket"] = socket
    for module in (inherit, revive):
        vars(module)["SocketType"] = calls.Sock
    vars(timers)["set"] = shims.Ordered
    vars(closing)["_dissolve"] = calls.dissolve
    vars(sockets)["has_data"] = lambda sock: bool(calls.endpoint(sock.fileno()).inbox)
    for module, name in ((poller, "_clock"), (custody, "monotonic")):
        vars(module)[name] = lambda: calls.KERNEL[-1].now
    shim = SimpleNamespace(**vars(random))
    shim.Random = lambda seed=None: random.Random(calls.KERNEL[-1].rng.random() if seed is None else seed)
    vars(rebalance)["random"] = shim


class Ear(logging.Handler):
    """Passes every record on to the world at hand."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.told: Callable[[logging.LogRecord], Any] = print

    def emit(self, record: logging.LogRecord) -> None:
        """Pass it on."""
        self.told(record)
