"""The man pages, from the command line's own parser and from the model of the configuration.

    PYTHON -I packaging/manpages.py TREE lbproxy.1|lbproxy.yaml.5

TREE holds lbproxy and what it imports. Prints the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # -I leaves it out
import facts

_FILES = """\
.TP
.I /etc/lbproxy/lbproxy.yaml
the configuration, see
.BR lbproxy.yaml (5)
.TP
.I /run/lbproxy/control.sock
where the daemon is asked; $LBPROXY_CONTROL and --control name another
.TP
.I /run/lbproxy\\-status/control.sock
where the members of the group lbproxy\\-status ask for status, conns and events
.TP
.I /usr/share/doc/lbproxy
README.md, docs/, CHANGELOG.md, examples/
"""
_ENVIRONMENT = """\
.TP
.B LBPROXY_CONTROL
the control socket of the daemon, as with \\-\\-control
.TP
.B NO_COLOR
if it is not empty, nothing is coloured
.TP
.B COLUMNS
how wide what is shown may be, in place of the terminal's width
"""
_EXAMPLES = """\
.TP
.B lbproxy status \\-\\-wait 30s \\-\\-servers 2
waits until two servers of each proxy are checked and up
.TP
.B lbproxy drain master1 && lbproxy conns \\-\\-watch
takes a server out of rotation, and shows its connections go
.TP
.B lbproxy completion bash > /etc/bash_completion.d/lbproxy
has bash complete commands and servers, where no package has seen to that
"""


def commands() -> Iterator[str]:
    """Yield the lines of lbproxy(1)."""
    from lbproxy import __version__, cli

    parser = cli._parser()
    yield _head("LBPROXY", 1, __version__)
    yield from _section("NAME", rf"lbproxy \- {_escape(_sentence(parser.description))}")
    yield from _section("SYNOPSIS", ".B lbproxy\n[OPTION]... COMMAND [ARGUMENT]...")
    yield from _section("OPTIONS", *_arguments(facts.arguments(parser)))
    yield ".SH COMMANDS"
    for command in facts.commands(parser):
        yield f".SS lbproxy {command.name}{command.places}"
        yield _escape(command.told)
        yield from _arguments(command.arguments)
    yield from _section("ENVIRONMENT", _ENVIRONMENT)
    yield from _section("FILES", _FILES)
    yield from _section("EXIT STATUS", _escape(facts.statuses(parser)))
    yield from _section("EXAMPLES", _EXAMPLES)
    yield from _section("SEE ALSO", ".BR lbproxy.yaml (5),\n.BR systemctl (1)")


def configuration() -> Iterator[str]:
    """Yield the lines of lbproxy.yaml(5)."""
    from lbproxy import __version__

    yield _head("LBPROXY.YAML", 5, __version__)
    yield from _section("NAME", r"lbproxy.yaml \- configuration of lbproxy")
    yield from _section(
        "DESCRIPTION",
        "A file in YAML. Durations are written as 250ms, 1s, 10m, 1h or as a number of seconds; addresses of IPv6 "
        "stand in brackets. A key that is not listed here is an error.\n.PP\n.B lbproxy check\nreports every error "
        "with its line. A file with every key and its reasons is\n.IR /usr/share/doc/lbproxy/examples/lbproxy.yaml .",
    )
    yield ".SH KEYS"
    for key in facts.settings():
        yield f".TP\n.B {_escape(key.name)}"
        yield _escape("\n.br\n".join(filter(None, (key.told, f"{key.limits}." if key.limits else ""))))
    yield from _section("SEE ALSO", ".BR lbproxy (1)")


def _arguments(arguments: Iterable[facts.Argument]) -> Iterator[str]:
    """Yield a paragraph for each."""
    for each in arguments:
        yield f".TP\n.B {_escape(each.name)}{f' {each.value}' if each.value else ''}\n{_escape(each.told)}"


def _head(name: str, section: int, version: str) -> str:
    return f'.TH {name} {section} "" "lbproxy {version}"'


def _section(title: str, *lines: str) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _sentence(text: str | None) -> str:
    return (text or "").rstrip(".")


def _escape(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def main(tree: str, page: str) -> None:
    """Print one page."""
    sys.path.insert(0, tree)
    lines = {"lbproxy.1": commands, "lbproxy.yaml.5": configuration}[page]()
    print("\n".join(line.rstrip("\n") for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
