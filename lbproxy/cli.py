"""The `lbproxy` command: argument parsing, what is printed, and the exit status.

0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon. A command imports what it needs when it runs, so that
`lbproxy status` does not pay for the daemon; and the daemon, which a restart waits for, not for the rest.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from lbproxy.config.model import DEFAULT_FILE
from lbproxy.errors import ConfigError, LbproxyError, NoDaemonError

if TYPE_CHECKING:
    import argparse

    from lbproxy.arguments import Parser

OK, REFUSED, NO_DAEMON, INTERRUPTED = 0, 1, 3, 130
_WHAT: Final = "A node-local layer-4 load balancer for the Kubernetes API servers."
_STATUS: Final = "Exit status: 0 done, 1 refused or invalid, 2 wrong usage, 3 no daemon."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's own) and return its exit status; 2 exits by itself."""
    command = _plain_run(sys.argv[1:] if argv is None else argv)
    if command is None:
        args = _parser().parse_args(argv)
        command = partial(args.run, args)
    try:
        status = command()
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


def _plain_run(argv: Sequence[str]) -> Callable[[], int] | None:
    """Return what carries `argv` out if it is `run` with its options behind it, as a unit has it; else None.

    Nobody waits for the other commands as a restart's connections do for this one: argparse, and a parser of all
    commands, would be an eighth of the time until the port listens.
    """
    names = {"-c": "file", "--config": "file", "--control": "control"}
    options = [names.get(word, "") for word in argv[1::2]]
    values = argv[2::2]
    plain = len(options) == len(values) == len({*options} - {""}) and not any(each.startswith("-") for each in values)
    return partial(_run, False, **dict(zip(options, values, strict=True))) if argv[:1] == ["run"] and plain else None


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


def _parser() -> argparse.ArgumentParser:
    from lbproxy import arguments, change, look

    options = arguments.everywhere()
    parser = arguments.Parser(prog="lbproxy", parents=[options], allow_abbrev=False, description=_WHAT, epilog=_STATUS)
    version = "show version, form and Python"
    parser.add_argument("--version", action=arguments.Version, show=_version, help=f"{version}, and exit")
    commands = parser.add_subparsers(metavar=arguments.COMMAND, required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, *takes: Callable[[Parser], None]) -> Parser:
        command = commands.add_parser(name, parents=[options], allow_abbrev=False, help=text, description=text)
        command.set_defaults(run=run)
        for take in takes:
            take(command)
        return command

    takes_json, takes_server = arguments.takes_json, arguments.takes_server
    add("run", _parsed_run, "run in the foreground, log to stderr", arguments.takes_patience)
    text = "validate the configuration file, and the files it names, as the service will"
    add("check", _check, text, arguments.takes_file)
    text = "print nginx.conf or haproxy.cfg as lbproxy.yaml, and say what is left out"
    add("import", _import, text, arguments.takes_import)
    add("reload", change.reload, "read the configuration again; show what changed, or why it was refused", takes_json)
    add("status", look.status, "show proxies and servers, their state and why", arguments.takes_wait)
    add("conns", look.conns, "show the open connections", arguments.takes_sort)
    text = "show what has happened lately: servers, reloads, drains, upgrades"
    add("events", look.events, text, takes_json)
    add("drain", change.drain, "take a server out of rotation", takes_server, arguments.takes_force)
    add("ready", change.ready, "put a drained server back", takes_server)
    add("upgrade", change.upgrade, "start the installed version and hand every connection over to it", takes_json)
    text = "close quiet connections of servers that have too many, once"
    add("rebalance", change.rebalance, text, arguments.takes_dry_run)
    add("version", _version, version)
    add("help", _help, "show this, or how a command is used", arguments.takes_command)
    add("completion", _completion, "print what has a shell complete commands and servers", arguments.takes_shell)
    add("demo", _demo, "three small backends and the proxy on free loopback ports, to see it work")
    return parser


def _version(_args: argparse.Namespace) -> int:
    from lbproxy import form

    print(form.this())
    if why := form.why_plain():
        print(why, file=sys.stderr)
    return OK


def _file(args: argparse.Namespace) -> str:
    return getattr(args, "config", DEFAULT_FILE)


def _parsed_run(args: argparse.Namespace) -> int:
    return _run(args.wait_for_port, _file(args), getattr(args, "control", None))


def _run(waits: bool, /, file: str = DEFAULT_FILE, control: str | None = None) -> int:
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):  # logrotate, or a runbook written for nginx
        signal.signal(ignored, signal.SIG_IGN)  # SIGHUP until there is something to reload
    signal.signal(signal.SIGQUIT, lambda *_: sys.exit(OK))
    gc.disable()  # importing makes no garbage, and the collector's looking for some is a tenth of a restart's pause

    from lbproxy.process import start

    return start.main(file, control, waits=waits)


def _check(args: argparse.Namespace) -> int:
    import json

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


def _completion(args: argparse.Namespace) -> int:
    from lbproxy import completion

    if args.line is None:
        print(completion.SCRIPTS[args.shell], end="")
        return OK
    for word, text in completion.following(_parser(), args.line, completion.names_of_servers):
        print(word if args.shell == "bash" else f"{word}\t{text}")
    return OK


def _demo(_args: argparse.Namespace) -> int:
    from lbproxy.demo import run

    return run.main()
