"""The commands that change something: reload, drain, ready, upgrade, rebalance. Each returns the exit status."""

from __future__ import annotations

import argparse
import json
import sys

from lbproxy.arguments import near
from lbproxy.status.commands import DRAIN, READY, REBALANCE, RELOAD, STATUS, UPGRADE
from lbproxy.whereabouts import control_of


def reload(args: argparse.Namespace) -> int:
    """Have the configuration read again, and say what changed, or why it was refused."""
    result = RELOAD.ask(control_of(args), {})
    applied = result["applied"]
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for line in result["lines"]:
            print(line, file=sys.stdout if applied else sys.stderr)
        if not applied:
            print("lbproxy: refused, the configuration that was in force goes on", file=sys.stderr)
    return int(not applied)


def drain(args: argparse.Namespace) -> int:
    """Take a server out of rotation."""
    found = DRAIN.ask(control_of(args), {"server": args.server, "force": args.force})["ok"]
    return _rotated(args, found, "draining: takes no new connections")


def ready(args: argparse.Namespace) -> int:
    """Put a server back."""
    return _rotated(args, READY.ask(control_of(args), {"server": args.server})["ok"], "ready: takes new connections")


def _rotated(args: argparse.Namespace, found: bool, done: str) -> int:
    if not found:
        proxies = STATUS.ask(control_of(args), {})["status"]["proxies"].values()
        names = {name for proxy in proxies for name in proxy["servers"]}
        print(f"lbproxy: no server is called {args.server}{near(args.server, names)}", file=sys.stderr)
        return 1
    print(json.dumps({"server": args.server}) if args.json else f"{args.server} is {done}")
    return 0


def upgrade(args: argparse.Namespace) -> int:
    """Hand every connection over to the version that is installed."""
    handed = UPGRADE.ask(control_of(args), {})
    same = " from the same version" if handed.get("before") == handed["version"] else ""
    words = (
        f"lbproxy {handed['version']} has taken over{same} as pid {handed['pid']}: "
        f"{handed['connections']} connections, which stood still for {handed['pause'] * 1000:.0f} ms"
    )
    print(json.dumps(handed, indent=2) if args.json else words)
    return 0


def rebalance(args: argparse.Namespace) -> int:
    """Close quiet surplus connections once, or only count them."""
    answer = REBALANCE.ask(control_of(args), {"dry_run": args.dry_run})
    if args.json:
        print(json.dumps(answer, indent=2))
        return 0
    for server, count in answer["servers"].items():
        print(f"{server}: {count} surplus connections {'would be closed' if args.dry_run else 'closed'}")
    if not answer["servers"]:
        print("nothing to close: no quiet connection is surplus")
    return 0
