"""What stands on the command line of `lbproxy`, and what is said of what should not stand there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Annotated, Final, NoReturn

from lbproxy.config.model import DEFAULT_FILE, Duration, Whole
from lbproxy.config.scalars import read

SORT_KEYS: Final = ("age", "idle", "in", "out", "client", "server", "process")
"""What `lbproxy conns` can be sorted by."""

COMMAND: Final = "COMMAND"
SERVER: Final = "SERVER"
"""What stands for a command's and for a server's name in the help."""
SHELLS: Final = ("bash", "zsh", "fish")
_NO_COMMAND = re.compile(r"argument COMMAND: invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL)


def near(word: str, known: Iterable[str]) -> str:
    """Return a question whether one of `known` was meant, to be put behind a complaint; empty if none is near."""
    found = get_close_matches(word, list(known), 2, 0.5)
    return f", did you mean {' or '.join(found)}?" if found else ""


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations, and offers the commands that are near a mistyped one."""

    def error(self, message: str) -> NoReturn:
        """Show the usage and what is wrong, and exit with 2."""
        if mistyped := _NO_COMMAND.fullmatch(message):
            word, known = mistyped[1], re.findall(r"[a-z-]+", mistyped[2])
            message = f"no command is called {word!r}{near(word, known) or '; `lbproxy help` shows all'}"
        super().error(message)


class Version(argparse.Action):
    """Carries out --version: shows what `show` does, and exits with the status that it returns."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        help: str,  # noqa: A002 (argparse's name)
        show: Callable[[argparse.Namespace], int],
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)
        self._show = show

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, *_: object) -> None:
        """Called by the parser, when it has come to it."""
        parser.exit(self._show(args))


def everywhere() -> Parser:
    """Return the options that may stand on either side of a command."""
    # SUPPRESS: an option that was not given must not undo one that was given on the other side of the command
    options = Parser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    options.add_argument("-c", "--config", metavar="FILE", help=f"configuration file (default {DEFAULT_FILE})")
    options.add_argument("--control", metavar="PATH", help="control socket of the daemon")
    return options


def takes_json(command: argparse.ArgumentParser) -> None:
    """Let the answer be asked for as JSON."""
    command.add_argument("--json", action="store_true", help="print JSON")


def takes_patience(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy run` does."""
    help_port = "wait for a port that another program has, and serve meanwhile; under systemd it always does"
    command.add_argument("--wait-for-port", action="store_true", help=help_port)


def _as(hint: object) -> Callable[[str], object]:
    """Return what reads an argument as the configuration reads a value."""

    def convert(text: str) -> object:
        try:
            return read(hint, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def takes_file(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy check` does."""
    takes_json(command)
    command.add_argument("file", metavar="FILE", nargs="?", help="what to check, in place of -c FILE")
    help_user = "judge as this user can read; for root the default is lbproxy, the account of the service"
    command.add_argument("--as", dest="user", metavar="USER", help=help_user)


def takes_import(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy import` does."""
    command.add_argument("file", metavar="FILE", help="nginx.conf or haproxy.cfg")
    help_from = "whose file it is, where that cannot be told by what is in it"
    command.add_argument("--from", dest="program", choices=("nginx", "haproxy"), help=help_from)
    command.add_argument("--strict", action="store_true", help="exit with 1 if anything was left out")


def takes_force(command: argparse.ArgumentParser) -> None:
    """Let it be done whatever comes of it."""
    help_force = "also if a proxy has no other server that takes new connections"
    command.add_argument("--force", action="store_true", help=help_force)


def takes_server(command: argparse.ArgumentParser) -> None:
    """Take the name of a server."""
    takes_json(command)
    command.add_argument("server", metavar=SERVER, help="name of the server")


def takes_command(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy help` does."""
    command.add_argument("command", metavar=COMMAND, nargs="?", help="what to tell of, in place of all")


def takes_shell(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy completion` does."""
    command.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"{', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    help_line = "print what may follow this command line, one a line, in place of the script, which asks for it"
    command.add_argument("line", metavar="LINE", nargs="?", help=help_line)


def takes_dry_run(command: argparse.ArgumentParser) -> None:
    """Let it be asked what would be done."""
    takes_json(command)
    command.add_argument("--dry-run", action="store_true", help="only say how many")


def takes_wait(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy status` does."""
    takes_json(command)
    help_workers = "show too what each worker carries, where there are several"
    command.add_argument("--workers", action="store_true", help=help_workers)
    when = command.add_mutually_exclusive_group()
    _takes_watch(when)
    help_wait = "wait at most so long until every proxy has its servers checked and up; 1 if they are not"
    when.add_argument("--wait", metavar="DURATION", type=_as(Annotated[float, Duration(0, 86400)]), help=help_wait)
    help_servers = "be content with N servers of each proxy (with --wait the default is all; without it do not wait)"
    command.add_argument("--servers", metavar="N", type=_as(Annotated[int, Whole(0, 10_000)]), help=help_servers)


def takes_sort(command: argparse.ArgumentParser) -> None:
    """Take what `lbproxy conns` does."""
    takes_json(command)
    _takes_watch(command)
    command.add_argument("--sort", choices=SORT_KEYS, default="age", help="what comes first (default: the oldest)")


def _takes_watch(command: argparse._ActionsContainer) -> None:
    command.add_argument("--watch", action="store_true", help="show it anew each second, until Ctrl-C")
