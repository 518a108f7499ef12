"""Whether a daemon has enough servers, now or within some time: what a script asks before it goes on."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Final

from lbproxy.balance.state import State
from lbproxy.errors import NoDaemonError
from lbproxy.status.commands import STATUS
from lbproxy.status.shapes import Status

_BETWEEN: Final = 0.2
"""Seconds between two looks."""


def lacking(status: Status, wanted: int | None) -> list[str]:
    """Return a line for each proxy that has fewer servers up than `wanted`; None is all that are not disabled.

    Those that no check has seen are not up.
    """
    lines = []
    for name, proxy in status["proxies"].items():
        states = [server["state"] for server in proxy["servers"].values()]
        up = states.count(State.UP)
        enough = len(states) - states.count(State.DISABLED) if wanted is None else wanted
        if up < enough:
            lines.append(f"{name}: {up} of {len(states)} servers up, {enough} wanted")
    return lines


def ask(path: str, wanted: int | None, seconds: float) -> tuple[Status, list[str]]:
    """Return the status of the daemon on control socket `path`, and what it lacks after `seconds` at most.

    A daemon that is not there yet is waited for too. Raises NoDaemonError and ControlError.
    """
    end = monotonic() + seconds
    while True:
        try:
            status = STATUS.ask(path, {})["status"]
            lack = lacking(status, wanted)
            if not lack or monotonic() >= end:
                return status, lack
        except NoDaemonError:
            if monotonic() >= end:
                raise
        sleep(_BETWEEN)
