"""The `lbproxy` command: argument parsing, what is printed, and the exit status.

0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon. A command imports what it needs when it runs, so that
`lbproxy status` does not pay for the daemon.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence

from lbproxy import form
from lbproxy.config.model import DEFAULT_CONTROL, DEFAULT_FILE
from lbproxy.errors import LbproxyError, NoDaemonError
from lbproxy.status.commands import (
    CONNS,
    DRAIN,
    READY,
    REBALANCE,
    RELOAD,
    STATUS,
    UPGRADE,
    Command,
    ServerAnswer,
    ServerArguments,
)

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
    everywhere = _everywhere()
    parser = argparse.ArgumentParser(
        prog="lbproxy",
        parents=[everywhere],
        allow_abbrev=False,
        description="A node-local layer-4 load balancer for the Kubernetes API servers.",
        epilog="Exit status: 0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon.",
    )
    parser.add_argument("--version", action=_Version, help="show version, form and Python, and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[everywhere], allow_abbrev=False, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("run", _run, "run in the foreground, log to stderr")
    _takes_file(add("check", _check, "validate the configuration file, and the files it names, as the service will"))
    add("reload", _reload, "make the daemon read its configuration again; show what changed, or why it was refused")
    _takes_json(add("status", _status, "show proxies and servers, their state and why"))
    _takes_json(add("conns", _conns, "show the open connections"))
    _takes_server(add("drain", _drain, "take a server out of rotation"))
    _takes_server(add("ready", _ready, "put a drained server back"))
    add("upgrade", _upgrade, "start the installed version and hand every connection over to it")
    _takes_dry_run(add("rebalance", _rebalance, "close quiet connections of servers that have too many, once"))
    add("version", _version, "show version, form and Python")
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


def _everywhere() -> argparse.ArgumentParser:
    """Return the options that may stand on either side of a command."""
    # SUPPRESS: an option that was not given must not undo one that was given on the other side of the command
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    options.add_argument("-c", "--config", metavar="FILE", help=f"configuration file (default {DEFAULT_FILE})")
    options.add_argument("--control", metavar="PATH", help="control socket of the daemon")
    return options


def _takes_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")


def _takes_file(command: argparse.ArgumentParser) -> None:
    _takes_json(command)
    command.add_argument("file", metavar="FILE", nargs="?", help="what to check, in place of -c FILE")
    help_user = "judge as this user can read; for root the default is lbproxy, the account of the service"
    command.add_argument("--as", dest="user", metavar="USER", help=help_user)


def _takes_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("server", metavar="SERVER", help="name of the server")


def _takes_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only say how many")


def _file(args: argparse.Namespace) -> str:
    return getattr(args, "config", DEFAULT_FILE)


def _run(args: argparse.Namespace) -> int:
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


def _reload(args: argparse.Namespace) -> int:
    result = RELOAD.ask(_control(args), {})
    for line in result["lines"]:
        print(line, file=sys.stdout if result["applied"] else sys.stderr)
    return OK if result["applied"] else REFUSED


def _status(args: argparse.Namespace) -> int:
    from lbproxy.status.render import status_text

    status = STATUS.ask(_control(args), {})["status"]
    print(json.dumps(status, indent=2) if args.json else status_text(status).rstrip("\n"))
    return OK


def _conns(args: argparse.Namespace) -> int:
    from lbproxy.status.render import conns_text

    conns = CONNS.ask(_control(args), {})["conns"]
    print(json.dumps(conns, indent=2) if args.json else conns_text(conns).rstrip("\n"))
    return OK


def _drain(args: argparse.Namespace) -> int:
    return _rotate(args, DRAIN, "draining: takes no new connections")


def _ready(args: argparse.Namespace) -> int:
    return _rotate(args, READY, "ready: takes new connections again")


def _rotate(args: argparse.Namespace, command: Command[ServerArguments, ServerAnswer], done: str) -> int:
    if not command.ask(_control(args), {"server": args.server})["ok"]:
        return _fail(f"no server is called {args.server}", REFUSED)
    print(f"{args.server} is {done}")
    return OK


def _upgrade(args: argparse.Namespace) -> int:
    handed = UPGRADE.ask(_control(args), {})
    print(
        f"lbproxy {handed['version']} has taken over as pid {handed['pid']}: "
        f"{handed['connections']} connections, which stood still for {handed['pause'] * 1000:.0f} ms"
    )
    return OK


def _rebalance(args: argparse.Namespace) -> int:
    servers = REBALANCE.ask(_control(args), {"dry_run": args.dry_run})["servers"]
    for server, count in servers.items():
        print(f"{server}: {count} surplus connections {'would be closed' if args.dry_run else 'closed'}")
    if not servers:
        print("nothing to close: no quiet connection is surplus")
    return OK


def _demo(_args: argparse.Namespace) -> int:
    from lbproxy.demo import run

    return run.main()


def _control(args: argparse.Namespace) -> str:
    """Return the daemon's control socket: --control, $LBPROXY_CONTROL, `control` of -c FILE, or the default."""
    if named := getattr(args, "control", None) or os.environ.get("LBPROXY_CONTROL"):
        return str(named)
    return _control_of(args.config) if hasattr(args, "config") else DEFAULT_CONTROL


def _control_of(file: str) -> str:
    """Return what `file` says, which may be broken: the daemon runs on, and is the one to say what is wrong with it."""
    from lbproxy.config.load import control_of

    try:
        control = control_of(file)
    except OSError as error:
        raise NoDaemonError(f"cannot look up the daemon: {file}: cannot be read: {error.strerror}") from None
    if control is None:
        print(f"lbproxy: {file} cannot be read up to `control`, asking {DEFAULT_CONTROL}", file=sys.stderr)
    return control or DEFAULT_CONTROL
