"""The `lbproxy` command: argument parsing, what is printed, and the exit status.

0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon. A command imports what it needs when it runs, so that
`lbproxy status` does not pay for the daemon.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence

from lbproxy import form
from lbproxy.arguments import (
    Parser,
    everywhere,
    near,
    takes_dry_run,
    takes_file,
    takes_force,
    takes_import,
    takes_json,
    takes_server,
    takes_sort,
    takes_wait,
)
from lbproxy.config.model import DEFAULT_FILE
from lbproxy.errors import ConfigError, LbproxyError, NoDaemonError
from lbproxy.status.commands import (
    DRAIN,
    READY,
    REBALANCE,
    RELOAD,
    STATUS,
    UPGRADE,
)
from lbproxy.whereabouts import control_of

OK, REFUSED, NO_DAEMON, INTERRUPTED = 0, 1, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's own) and return its exit status; 2 exits by itself."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        if sys.stdout:  # None when started with it closed
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `lbproxy status | head`: the reader has what it wanted
        _forget_output()
        return OK
    except NoDaemonError as error:
        return _fail(error, NO_DAEMON)
    except LbproxyError as error:
        return _fail(error, REFUSED)
    except OSError as error:
        _forget_output()
        return _fail(error.strerror or error, REFUSED)
    except Exception as error:  # a bug, but its place is of more use to an operator than its traceback
        return _fail(f"internal error: {error!r} at {_place(error)}", REFUSED)
    return status


def _forget_output() -> None:
    """Let what is still to be written go nowhere; the interpreter would try it again at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(why: object, status: int) -> int:
    print(f"lbproxy: {why}", file=sys.stderr)
    return status


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"


Run = Callable[[argparse.Namespace], int]
"""Carries out a command; returns its exit status."""


def _parser() -> argparse.ArgumentParser:
    options = everywhere()
    parser = Parser(
        prog="lbproxy",
        parents=[options],
        allow_abbrev=False,
        description="A node-local layer-4 load balancer for the Kubernetes API servers.",
        epilog="Exit status: 0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon.",
    )
    parser.add_argument("--version", action=_Version, help="show version, form and Python, and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Run, text: str) -> Parser:
        command = commands.add_parser(name, parents=[options], allow_abbrev=False, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("run", _run, "run in the foreground, log to stderr")
    takes_file(add("check", _check, "validate the configuration file, and the files it names, as the service will"))
    takes_import(add("import", _import, "print nginx.conf or haproxy.cfg as lbproxy.yaml, and say what is left out"))
    takes_json(add("reload", _reload, "read the configuration again; show what changed, or why it was refused"))
    takes_wait(add("status", _status, "show proxies and servers, their state and why"))
    takes_sort(add("conns", _conns, "show the open connections"))
    takes_json(add("events", _events, "show what has happened in the last hours: servers, reloads, drains, upgrades"))
    drain = add("drain", _drain, "take a server out of rotation")
    takes_server(drain)
    takes_force(drain)
    takes_server(add("ready", _ready, "put a drained server back"))
    takes_json(add("upgrade", _upgrade, "start the installed version and hand every connection over to it"))
    takes_dry_run(add("rebalance", _rebalance, "close quiet connections of servers that have too many, once"))
    add("version", _version, "show version, form and Python")
    add("help", _help, "show this, or how a command is used").add_argument("command", metavar="COMMAND", nargs="?")
    add("demo", _demo, "three small backends and the proxy on free loopback ports, to see it work")
    return parser


class _Version(argparse.Action):
    """Carries out --version."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 (argparse's name)
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, *_: object) -> None:
        parser.exit(_version(args))


def _version(_args: argparse.Namespace) -> int:
    print(form.THIS)
    if why := form.why_plain():
        print(why, file=sys.stderr)
    return OK


def _file(args: argparse.Namespace) -> str:
    return getattr(args, "config", DEFAULT_FILE)


def _run(args: argparse.Namespace) -> int:
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # logrotate, or a runbook written for nginx
        signal.signal(ignored, signal.SIG_IGN)  # SIGHUP until there is something to reload
    signal.signal(signal.SIGQUIT, lambda *_: sys.exit(OK))
    gc.disable()  # importing makes no garbage, and the collector's looking for some is a tenth of a restart's pause

    from lbproxy.process import start

    return start.main(_file(args), getattr(args, "control", None))


def _check(args: argparse.Namespace) -> int:
    from lbproxy.check import as_found, check, service_account

    file = args.file or _file(args)
    user = args.user or service_account()
    problems = check(file, user)
    if args.json:
        print(json.dumps({"file": file, "ok": not problems, "user": user, "problems": as_found(problems)}, indent=2))
        return REFUSED if problems else OK
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return REFUSED
    print(f"{file}: ok")
    return OK


def _import(args: argparse.Namespace) -> int:
    from lbproxy.importer.convert import convert

    try:
        imported = convert(args.file, args.program)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return REFUSED
    for problem in imported.left:
        print(problem, file=sys.stderr)
    print(imported.text, end="")
    return REFUSED if args.strict and imported.left else OK


def _help(args: argparse.Namespace) -> int:
    _parser().parse_args([args.command, "--help"] if args.command else ["--help"])  # which exits
    return OK


def _reload(args: argparse.Namespace) -> int:
    result = RELOAD.ask(control_of(args), {})
    applied = result["applied"]
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for line in result["lines"]:
            print(line, file=sys.stdout if applied else sys.stderr)
        if not applied:
            _fail("refused, the configuration that was in force goes on", REFUSED)
    return OK if applied else REFUSED


def _status(args: argparse.Namespace) -> int:
    from lbproxy import look

    return look.status(args)


def _conns(args: argparse.Namespace) -> int:
    from lbproxy import look

    return look.conns(args)


def _events(args: argparse.Namespace) -> int:
    from lbproxy import look

    return look.events(args)


def _drain(args: argparse.Namespace) -> int:
    found = DRAIN.ask(control_of(args), {"server": args.server, "force": args.force})["ok"]
    return _rotated(args, found, "draining: takes no new connections")


def _ready(args: argparse.Namespace) -> int:
    return _rotated(args, READY.ask(control_of(args), {"server": args.server})["ok"], "ready: takes new connections")


def _rotated(args: argparse.Namespace, found: bool, done: str) -> int:
    if not found:
        proxies = STATUS.ask(control_of(args), {})["status"]["proxies"].values()
        names = {name for proxy in proxies for name in proxy["servers"]}
        return _fail(f"no server is called {args.server}{near(args.server, names)}", REFUSED)
    print(json.dumps({"server": args.server}) if args.json else f"{args.server} is {done}")
    return OK


def _upgrade(args: argparse.Namespace) -> int:
    handed = UPGRADE.ask(control_of(args), {})
    same = " from the same version" if handed.get("before") == handed["version"] else ""
    words = (
        f"lbproxy {handed['version']} has taken over{same} as pid {handed['pid']}: "
        f"{handed['connections']} connections, which stood still for {handed['pause'] * 1000:.0f} ms"
    )
    print(json.dumps(handed, indent=2) if args.json else words)
    return OK


def _rebalance(args: argparse.Namespace) -> int:
    answer = REBALANCE.ask(control_of(args), {"dry_run": args.dry_run})
    if args.json:
        print(json.dumps(answer, indent=2))
        return OK
    for server, count in answer["servers"].items():
        print(f"{server}: {count} surplus connections {'would be closed' if args.dry_run else 'closed'}")
    if not answer["servers"]:
        print("nothing to close: no quiet connection is surplus")
    return OK


def _demo(_args: argparse.Namespace) -> int:
    from lbproxy.demo import run

    return run.main()
