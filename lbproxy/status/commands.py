"""The commands that a daemon takes on its control socket: what each is asked with, and what it answers.

A `Command` is used from both ends: the CLI asks with it (`DRAIN.ask(path, {"server": "m3"})`), and the daemon binds it
to what carries it out (`DRAIN.bind(drain)`). A new one is a line at the end of this file, and those two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, NotRequired, TypedDict, TypeVar, cast, get_type_hints

from lbproxy.errors import ControlError
from lbproxy.status.client import call
from lbproxy.status.shapes import Connection, Event, Status

Arguments = TypeVar("Arguments", bound=Mapping[str, object])
Answer = TypeVar("Answer")

Handler = Callable[[Mapping[str, object]], Awaitable[object]]
"""Takes the arguments as they came, returns what goes back as JSON; an LbproxyError that it raises is the refusal."""


class Command(Generic[Arguments, Answer]):
    """A command by its name. `arguments` is a TypedDict of strings, numbers and booleans."""

    def __init__(self, name: str, arguments: type[Arguments]) -> None:
        self.name = name
        self._arguments = arguments

    def ask(self, path: str, arguments: Arguments) -> Answer:
        """Ask the daemon on control socket `path`; raises as `client.call` does."""
        return cast("Answer", call(path, self.name, arguments))

    def bind(self, do: Callable[[Arguments], Awaitable[Answer]]) -> tuple[str, Handler]:
        """Return this command's name and what answers it, which is `do` with the arguments checked."""

        async def handle(arguments: Mapping[str, object]) -> Answer:
            return await do(self._checked(arguments))

        return self.name, handle

    def _checked(self, arguments: Mapping[str, object]) -> Arguments:
        """Return `arguments` if they have the right form; others that came with them are let pass."""
        optional: frozenset[str] = getattr(self._arguments, "__optional_keys__", frozenset())
        for key, kind in get_type_hints(self._arguments).items():
            if key in optional and key not in arguments:
                continue
            if not isinstance(arguments.get(key), kind):
                raise ControlError(f"command {self.name} needs {key}, of type {kind.__name__}")
        return cast("Arguments", arguments)


class NoArguments(TypedDict):
    """Nothing but the command."""


class ServerArguments(TypedDict):
    """A server by its name, in whichever proxies have it."""

    server: str


class DrainArguments(ServerArguments, total=False):
    """With `force`, also the last server of a proxy that takes new connections."""

    force: bool


class RebalanceArguments(TypedDict):
    """`dry_run` only counts."""

    dry_run: bool


class StatusAnswer(TypedDict):
    """How everything is."""

    status: Status


class ConnsAnswer(TypedDict):
    """The open connections."""

    conns: list[Connection]


class EventsAnswer(TypedDict):
    """What has happened, the newest last."""

    events: list[Event]


class ReloadAnswer(TypedDict):
    """What changed, or why the reload was refused, a line each."""

    applied: bool
    lines: list[str]


class ServerAnswer(TypedDict):
    """Whether there is a server of that name."""

    ok: bool


class RebalanceAnswer(TypedDict):
    """How many connections were closed, or would be, by server name."""

    servers: dict[str, int]


class UpgradeAnswer(TypedDict):
    """The process that has taken over; `pause` is how long, in seconds, its `connections` stood still.

    `before` is the version that it has taken over from; daemons before 1.0 do not say it.
    """

    pid: int
    version: str
    before: NotRequired[str]
    connections: int
    pause: float


STATUS: Final = Command[NoArguments, StatusAnswer]("status", NoArguments)
CONNS: Final = Command[NoArguments, ConnsAnswer]("conns", NoArguments)
EVENTS: Final = Command[NoArguments, EventsAnswer]("events", NoArguments)
RELOAD: Final = Command[NoArguments, ReloadAnswer]("reload", NoArguments)
DRAIN: Final = Command[DrainArguments, ServerAnswer]("drain", DrainArguments)
READY: Final = Command[ServerArguments, ServerAnswer]("ready", ServerArguments)
REBALANCE: Final = Command[RebalanceArguments, RebalanceAnswer]("rebalance", RebalanceArguments)
UPGRADE: Final = Command[NoArguments, UpgradeAnswer]("upgrade", NoArguments)
LOOKS: Final = (STATUS.name, CONNS.name, EVENTS.name)
"""Those that change nothing."""
