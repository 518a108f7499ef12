"""What the shells complete: a script for each, and what it asks for at each press of the key.

The scripts know nothing of lbproxy. They ask `lbproxy completion SHELL LINE` what may come next, so that they fit
whatever version is installed, and a server's name can be one that the daemon has now.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Final

from lbproxy.arguments import COMMAND, SERVER
from lbproxy.errors import LbproxyError

SCRIPTS: Final = {
    "bash": r"""_lbproxy() {
    local line=${COMP_LINE:0:COMP_POINT} each
    local word=${line##* }
    local head=${word%"${word##*[:=]}"}  # bash completes what follows a colon, or =, as a word of its own
    COMPREPLY=()
    while read -r each; do
        COMPREPLY+=("${each#"$head"}")
    done < <("$1" completion bash "$line" 2>/dev/null)
}
complete -o bashdefault -o default -F _lbproxy lbproxy
""",
    "zsh": r"""#compdef lbproxy
_lbproxy() {
    local -a found
    local each
    for each in ${(f)"$($words[1] completion zsh "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)"}; do
        found+=("${${each%%$'\t'*}//:/\\:}:${each#*$'\t'}")
    done
    if (( $#found )); then _describe lbproxy found; else _files; fi
}
if [[ $funcstack[1] == _lbproxy ]]; then _lbproxy "$@"; else compdef _lbproxy lbproxy; fi
""",
    "fish": r"""function __lbproxy_next
    lbproxy completion fish (commandline -cp | string collect) 2>/dev/null
end
complete -c lbproxy -f -a '(__lbproxy_next)'
complete -c lbproxy -n 'not __lbproxy_next | string length -q' -F
""",
}


class _Line:
    """A command line as far as it goes: the command in it, and what may still come."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.command = parser
        self.awaited: argparse.Action | None = None
        """The option whose value is due."""
        self.given = argparse.Namespace()
        """The options that are there, with their values."""
        self.places = _places(parser)
        """What is still to be named."""

    def take(self, word: str) -> None:
        """Go on by a word."""
        if self.awaited is not None:
            setattr(self.given, self.awaited.dest, word)
            self.awaited = None
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            option = self.command._option_string_actions.get(name)
            if option is not None:
                setattr(self.given, option.dest, value)
                self.awaited = option if option.nargs is None and not equals else None
        elif self.places:
            place = self.places.pop(0)
            if isinstance(place, argparse._SubParsersAction) and word in place.choices:
                self.command = place.choices[word]
                self.places = _places(self.command)


def following(
    parser: argparse.ArgumentParser, line: str, servers: Callable[[argparse.Namespace], list[str]]
) -> Iterator[tuple[str, str]]:
    """Yield what may stand at the end of `line`, a command line up to the cursor, with what it is for.

    Nothing where a file may, which the shells know themselves. `servers` returns the names of servers, by the options.
    """
    words = line.split()[1:]
    current = "" if line[-1:].isspace() or not words else words.pop()
    read = _Line(parser)
    for word in words:
        read.take(word)
    found = _options(read) if current.startswith("-") and read.awaited is None else _values(parser, read, servers)
    return (each for each in found if each[0].startswith(current))


def names_of_servers(given: argparse.Namespace) -> list[str]:
    """Return the names of the daemon's servers; none if there is no daemon, or if it may not be asked."""
    from lbproxy.status.commands import STATUS
    from lbproxy.status.onlookers import for_looking
    from lbproxy.whereabouts import control_of

    try:
        proxies = STATUS.ask(for_looking(control_of(given)), {})["status"]["proxies"]
    except LbproxyError:
        return []
    return list(dict.fromkeys(server for proxy in proxies.values() for server in proxy["servers"]))


def _places(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _options(read: _Line) -> Iterator[tuple[str, str]]:
    for action in read.command._actions:
        if action.option_strings and not hasattr(read.given, action.dest):
            yield action.option_strings[-1], action.help or ""


def _values(
    parser: argparse.ArgumentParser, read: _Line, servers: Callable[[argparse.Namespace], list[str]]
) -> Iterator[tuple[str, str]]:
    place = read.awaited or (read.places[0] if read.places else None)
    if place is None:
        return
    if place.metavar == COMMAND:
        for commands in _places(parser):
            if isinstance(commands, argparse._SubParsersAction):
                yield from ((each.dest, each.help or "") for each in commands._choices_actions)
    elif place.metavar == SERVER:
        yield from ((name, "") for name in servers(read.given))
    else:
        yield from ((str(each), "") for each in place.choices or ())
