"""The commands that show how the daemon is: status, conns, events. Each returns the exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from lbproxy.errors import NoDaemonError
from lbproxy.status.commands import CONNS, EVENTS, STATUS
from lbproxy.status.enough import ask
from lbproxy.status.onlookers import for_looking
from lbproxy.status.owners import owners
from lbproxy.status.screen import screen, watch
from lbproxy.status.shapes import Connection, Status
from lbproxy.status.text import conns_text, events_text, status_text, workers_text
from lbproxy.whereabouts import control_of


def status(args: argparse.Namespace) -> int:
    """Show proxies and servers, once, again and again, or as soon as enough servers are up."""
    control = for_looking(control_of(args))
    if args.watch:
        watch(_undaunted(lambda: _status_text(_ask(control), args.json, args.workers)))
        return 0
    wanted = 0 if args.wait is None and args.servers is None else args.servers
    found, lack = ask(control, wanted, args.wait or 0.0)
    print(_status_text(found, args.json, args.workers))
    for line in lack:
        print(f"lbproxy: {line}", file=sys.stderr)
    return int(bool(lack))


def conns(args: argparse.Namespace) -> int:
    """Show the open connections, with the local processes that have them, once or again and again."""
    control = for_looking(control_of(args))
    if args.watch:
        watch(_undaunted(lambda: _conns_text(control, args.sort, args.json)))
    else:
        print(_conns_text(control, args.sort, args.json))
    return 0


def events(args: argparse.Namespace) -> int:
    """Show what has happened."""
    found = EVENTS.ask(for_looking(control_of(args)), {})["events"]
    print(json.dumps(found, indent=2) if args.json else events_text(found, screen()).rstrip("\n"))
    return 0


def _ask(control: str) -> Status:
    return STATUS.ask(control, {})["status"]


def _status_text(status: Status, as_json: bool, workers: bool) -> str:
    if as_json:
        return json.dumps(status, indent=2)
    text = status_text(status, screen())
    return (f"{text}\n{workers_text(status, screen())}" if workers else text).rstrip("\n")


def _undaunted(text: Callable[[], str]) -> Callable[[], str]:
    """Return what goes on showing `text` when the daemon is away for a while; it must be there at first."""
    shown = [text()]

    def again() -> str:
        try:
            shown[0] = text()
        except NoDaemonError as error:
            return f"{error}; before that:\n\n{shown[0]}"
        return shown[0]

    return again


def _conns_text(control: str, key: str, as_json: bool) -> str:
    found = CONNS.ask(control, {})["conns"]
    if as_json and key != "process":
        return json.dumps(sorted(found, key=lambda conn: _place(conn, "", key)), indent=2)
    listens = [address for proxy in _ask(control)["proxies"].values() for address in proxy["listen"]]
    known = owners({conn["client"] for conn in found}, {int(address.rpartition(":")[2]) for address in listens})
    found.sort(key=lambda conn: _place(conn, known.get(conn["client"], ""), key))
    if as_json:
        return json.dumps(found, indent=2)
    return conns_text(found, [known.get(conn["client"], "") for conn in found], screen()).rstrip("\n")


def _place(conn: Connection, owner: str, key: str) -> tuple[float, str]:
    """Return where a connection stands: numbers from the largest, words by the alphabet, unknown ones at the end."""
    numbers = {
        "age": conn["age_seconds"],
        "idle": conn["idle_seconds"],
        "in": conn["bytes_in"],
        "out": conn["bytes_out"],
    }
    if key in numbers:
        return -numbers[key], ""
    word = {"client": conn["client"], "server": conn["server"], "process": owner}[key]
    return float(not word), word
