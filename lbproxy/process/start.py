"""`lbproxy run`: from what there is (a file, a predecessor, descriptors from systemd) to a running `Daemon`."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from contextlib import closing

import uvloop

from lbproxy.config.load import Reading, loads, read_file
from lbproxy.config.model import Config, Log
from lbproxy.errors import ConfigError, HandoverError
from lbproxy.handover.inherit import Inherited, drop, from_fds
from lbproxy.handover.keeper import queue_name
from lbproxy.handover.takeover import Takeover
from lbproxy.net.poller import Poller
from lbproxy.process import log as logs
from lbproxy.process.app import App
from lbproxy.process.daemon import Daemon
from lbproxy.process.dataplane import DataPlane
from lbproxy.process.systemd import Notifier, listen_fds

log = logging.getLogger(__name__)


def main(file: str, control: str | None = None) -> int:
    """Run the proxy of configuration `file` until it is told to stop; return the exit status.

    `control` replaces the control socket's path from the file.
    """
    _occupy_standard_streams()
    logs.setup(Log())
    _raise_fd_limit()
    takeover = Takeover.asked_for()
    try:
        if takeover is not None:
            takeover.meet()
        inherited = takeover.inherited if takeover is not None else from_fds(listen_fds())
        reading = read_file(file)
        config, error = _configuration(reading, file, inherited)
    except (ConfigError, HandoverError) as problem:
        if takeover is not None:
            takeover.refuse(str(problem))
        print(problem, file=sys.stderr)
        return 1
    logs.setup(config.log)
    if error:
        log.error("%s\nthe configuration that was in force before goes on", error)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return uvloop.run(_serve(config, file, control, error, reading.content, takeover, inherited))


def _configuration(reading: Reading, file: str, inherited: Inherited) -> tuple[Config, str | None]:
    """Return the configuration and, if it is the one of the last process because the file is broken, why that is."""
    if isinstance(reading.config, Config):
        return reading.config, None
    if not inherited.config:
        raise reading.config
    return loads(inherited.config, file), str(reading.config)


async def _serve(
    config: Config,
    file: str,
    control: str | None,
    error: str | None,
    content: bytes | None,
    takeover: Takeover | None,
    inherited: Inherited,
) -> int:
    notifier = Notifier()
    workers = len(os.sched_getaffinity(0)) if config.workers == "auto" else config.workers

    def daemon(plane: DataPlane) -> Daemon:
        return Daemon(config, file, plane, notifier, content=content, control=control, error=error)

    if workers == 1:
        with closing(Poller(asyncio.get_running_loop())) as poller:
            app = App(config, poller, inherited, notifier if notifier.keeps else None)
            return await daemon(app).run(takeover)
    from lbproxy.process.supervisor import Supervisor  # no restart without handover should pay for it

    drop([*inherited.rested, *inherited.kept])  # one process has left them, and several cannot go on with them
    for number in inherited.queues:
        notifier.forget(queue_name(number))
    return await daemon(Supervisor(config, workers, inherited.listeners)).run(takeover)


def _occupy_standard_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr was closed: a client's socket would get its number, and the log."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def _raise_fd_limit() -> None:
    """Use all the file descriptors that the system grants; the soft limit is for programs that call select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("the limit of %d open files cannot be raised to %d: %s", soft, hard, error)
