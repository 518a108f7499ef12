"""What lbproxy raises. Expected outcomes (a refused connect, a failed check) are values, not exceptions."""

from __future__ import annotations

from lbproxy.record import dataclass


class LbproxyError(Exception):
    """Base of everything below; its text is one line (or one line per problem) fit to print as it is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration file.

    `line` counts from 1, 0 where the whole file is meant; `path` is the dotted place
    (`proxies.kube-apiserver.servers[1].weight`), empty where the whole file is meant.
    """

    file: str
    line: int
    path: str
    why: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.why}" if self.path else f"{where}: {self.why}"


class ConfigError(LbproxyError):
    """A configuration that cannot be used; carries every problem found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class BindError(LbproxyError):
    """An address that cannot be listened on; says which, for which proxy, and why."""


class AbsentError(BindError):
    """The address is not on this machine, which may be only for now."""


class TakenError(BindError):
    """Another program listens there."""


class YieldError(BindError):
    """The port belongs to a program that listens on every address, as the kube-apiserver of a master does."""


class ControlError(LbproxyError):
    """The control socket cannot be made, or the daemon refused a command."""


class OccupiedError(ControlError):
    """Another daemon answers on the control socket."""


class NoDaemonError(LbproxyError):
    """Nobody answers on the control socket."""


class HandoverError(LbproxyError):
    """What a predecessor has left cannot be taken over; says why."""
