"""`lbproxy run`: from what there is (a file, a predecessor, descriptors from systemd) to a running `Daemon`."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from contextlib import closing
from dataclasses import field
from typing import TYPE_CHECKING, Final

import uvloop

from lbproxy.config.load import Reading, loads, read_file
from lbproxy.config.model import Config, Log
from lbproxy.errors import ConfigError, LbproxyError
from lbproxy.handover.inherit import Inherited, from_fds
from lbproxy.handover.takeover import Takeover, live_apart
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.process.absent import Patience
from lbproxy.process.app import App
from lbproxy.process.daemon import Daemon
from lbproxy.process.dataplane import DataPlane
from lbproxy.process.following import Following, place
from lbproxy.process.legacy import Legacy
from lbproxy.process.systemd import Notifier, listen_fds
from lbproxy.record import dataclass

if TYPE_CHECKING:
    from lbproxy.workers.nursery import Nursery

log = logging.getLogger(__name__)

_REST: Final = 2.0
"""Seconds between a start that fails and the next one: what such starts cost is a tenth of a core."""
_FEWEST_FDS: Final = 32
"""At rest it has about 20 of them; with fewer than that uvloop, or what ends it, fails in ways of its own."""


def main(file: str, control: str | None = None, *, waits: bool = False) -> int:
    """Run the proxy of configuration `file` until it is told to stop; return the exit status.

    `control` replaces the control socket's path from the file. If it `waits`, a port that another program has is no
    reason to end.
    """
    _occupy_standard_streams()
    takeover = Takeover.asked_for()
    if takeover is not None:
        live_apart()
    logs.setup(Log())
    try:
        _raise_fd_limit()
        reading = read_file(file)
        nursery = _nursery(reading.config)
        if takeover is not None:
            takeover.meet()
        inherited = takeover.inherited if takeover is not None else from_fds(listen_fds())
        if isinstance(reading.config, ConfigError) and not inherited.config:
            raise reading.config
    except LbproxyError as problem:
        print(problem, file=sys.stderr)
        if takeover is not None:
            takeover.refuse(str(problem))
        elif Notifier().there and _is_absent(file):
            print("it is not tried again: write it, and start the service", file=sys.stderr)
            return os.EX_CONFIG
        else:
            _rest()
        return 1
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    status = uvloop.run(_Start(file, control, waits, reading, takeover, inherited, nursery).run())
    if status == 1 and takeover is None:
        _rest()
    return status


def size(config: Config) -> int:
    """Return how many processes are to carry connections."""
    if config.workers == 1:
        return 1
    from lbproxy.workers.cpus import count  # one process alone need not pay for it

    return count(config.workers)


def _nursery(config: Config | ConfigError) -> Nursery | None:
    """Return where workers will come from, while there is neither loop nor thread; None where there will be none."""
    if isinstance(config, ConfigError) or size(config) == 1:
        return None
    from lbproxy.workers.nursery import Nursery

    try:
        return Nursery.fork()
    except OSError:
        return None  # then one is started when it is needed, and says what is wrong


def _is_absent(file: str) -> bool:
    try:
        os.stat(file)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _rest() -> None:
    """Wait a little before the end, for systemd starts it again at once and never gives up."""
    if Notifier().there:
        logs.finish()
        time.sleep(_REST)


@dataclass(frozen=True, slots=True)
class _Start:
    """What there is to start with: the file as it was read, and what a predecessor has left."""

    file: str
    control: str | None
    waits: bool
    reading: Reading
    takeover: Takeover | None
    inherited: Inherited
    nursery: Nursery | None
    notifier: Notifier = field(default_factory=Notifier)

    async def run(self) -> int:
        """Run with what the file says, else with what was in force before; return the exit status."""
        config, before = self.reading.config, self.inherited.config
        if isinstance(config, ConfigError):
            why = str(config)
        else:
            try:
                return await self._run(config, otherwise=bool(before))
            except LbproxyError as error:
                why = str(error)
        log.error("%s\nthe configuration that was in force before goes on", why)
        return await self._run(loads(before, self.file), why)

    async def _run(self, config: Config, error: str | None = None, *, otherwise: bool = False) -> int:
        """Run with `config`, which is not what the file says if there is an `error`: then with whatever of it works.

        Raises LbproxyError if there is something to do `otherwise`.
        """
        logs.setup(config.log)
        following = Following(place(self.control or config.control))
        legacy = Legacy(self.notifier, self.inherited)
        with closing(Poller(asyncio.get_running_loop())) as poller:
            daemon = Daemon(
                config, self.file, self._plane(following.merged(config), poller), following, self.notifier, legacy,
                content=self.reading.content, control=self.control, error=error, patience=self._patience(otherwise),
            )  # fmt: skip
            return await daemon.run(self.takeover, otherwise=otherwise)

    def _plane(self, config: Config, poller: Poller) -> DataPlane:
        store = self.notifier if self.notifier.keeps else None
        workers = size(config)
        if workers > 1:
            from lbproxy.workers.supervisor import Supervisor  # one process alone need not pay for it

            return Supervisor(config, workers, poller, self.inherited, store, self.nursery)
        if self.nursery is not None:  # it was for what the file says, and that does not work
            self.nursery.close()
        return App(config, poller, self.inherited, store)

    def _patience(self, otherwise: bool) -> Patience:
        """Under systemd, which would only start it again, it always waits itself, and serves meanwhile."""
        if not (self.notifier.there or self.waits):
            return Patience.NONE
        return Patience.TAKEN if otherwise or self.takeover is not None else Patience.ALL


def _occupy_standard_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr was closed: a client's socket would get its number, and the log."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def _raise_fd_limit() -> None:
    """Use all the file descriptors that the system grants; the soft limit is for programs that call select().

    Raises LbproxyError if they are too few for the loop itself, which would end in a traceback.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < _FEWEST_FDS:  # below 0 is no limit
        raise LbproxyError(f"a limit of {hard} open files is too low, {_FEWEST_FDS} is the least: raise LimitNOFILE")
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of %d open files cannot be raised to %d: %s", soft, hard, error)
