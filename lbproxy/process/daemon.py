"""The process around the data plane: signals, control socket, admin endpoint, reloads, systemd, upgrades.

Its life is a table of phases and events: see `phases`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections import Counter, deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lbproxy import form
from lbproxy.config.model import Config
from lbproxy.errors import ControlError, HandoverError, LbproxyError, YieldError
from lbproxy.handover.steps import Step, begin
from lbproxy.handover.takeover import Takeover
from lbproxy.handover.upgrade import ALONE, UNTOLD, Handed, Surroundings, hand_over
from lbproxy.process import log as logs
from lbproxy.process.absent import Patience
from lbproxy.process.access import Access
from lbproxy.process.commands import commands
from lbproxy.process.dataplane import DataPlane
from lbproxy.process.following import Following
from lbproxy.process.legacy import Legacy
from lbproxy.process.phases import Event, Life, OutOfTurnError, Phase
from lbproxy.process.reload import Reloader, ReloadResult
from lbproxy.process.systemd import Notifier
from lbproxy.status.snapshot import ConnectionView, Snapshot, bereft
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.status import shapes

log = logging.getLogger(__name__)

_TICK = 1.0  # seconds between two measurements of the loop's lag, and at most between two pings of the watchdog
_LAGS = 15  # ticks that the lag shown is the worst of: a usual scrape interval, so that no stall goes unseen
_STOP_MARGIN = 5.0  # seconds beyond shutdown_timeout after which systemd may take a stop for hung


class Daemon:
    """Owns what surrounds the plane, as above; the admin endpoint reads its snapshots from it."""

    def __init__(
        self,
        config: Config,
        file: str,
        plane: DataPlane,
        following: Following,
        notifier: Notifier,
        legacy: Legacy,
        *,
        content: bytes | None,
        control: str | None = None,
        error: str | None = None,
        patience: Patience = Patience.NONE,
    ) -> None:
        """`content` is what is in the file, None if it cannot be read; `control` replaces the path in `config`.

        `error` says why `config` is an older one than that of `content`, `patience` what a start waits for.
        """
        self._plane = plane
        self._following = following
        self._tasks, self._life = Tasks(), Life()
        self._notifier = notifier
        self._legacy = legacy
        self._reloader = Reloader(file, config, self._apply, content, error)
        self._access = Access(control or config.control, partial(commands, self), self, self._tasks)
        self._patience = patience
        self._reload_due = False
        self._for_good = False  # a stop that leaves nothing to a next process
        self._lags: deque[float] = deque([0.0], maxlen=_LAGS)

    async def run(self, takeover: Takeover | None = None, *, otherwise: bool = False) -> int:
        """Serve until SIGTERM or SIGINT; return 0 after that, 1 if it could not start, 69 if the port is another's.

        Raises LbproxyError if it could not start and there is something to do `otherwise`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._told_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)
        try:
            await self._start(takeover)
        except LbproxyError as error:
            await self._access.close()
            await self._tasks.cancel()
            if otherwise:
                raise
            return self._not_started(error, takeover)
        await self._started()
        await self._life.ending()
        await self._stop()
        return 0

    # -- start -------------------------------------------------------------------------------------------------------

    async def _start(self, takeover: Takeover | None) -> None:
        if takeover is not None:
            await takeover.run(self._prepare_to_take_over, self._take_over)
            return
        as_before = not self._reloader.view.last_reload_successful
        await self._access.insist(anyhow=as_before)
        await self._plane.prepare(patience=self._patience, rehearsed=as_before)
        await self._plane.serve()

    async def _prepare_to_take_over(self) -> None:
        self._access.bind(take_over=True)
        await self._plane.prepare(patience=self._patience)

    async def _take_over(self) -> None:
        await self._plane.serve()
        await self._access.answer()

    def _not_started(self, error: LbproxyError, takeover: Takeover | None) -> int:
        log.error("%s", error)
        if takeover is not None:
            takeover.refuse(str(error))
        if isinstance(error, YieldError) and self._notifier.there:
            self._notifier.ready(str(error))  # to systemd, an orderly end is one that comes after a start
            self._notifier.barrier()
            return os.EX_UNAVAILABLE
        return 1

    async def _started(self) -> None:
        await self._move_admin()
        if self._reloader.content is not None and self._reloader.view.last_reload_successful:
            self._legacy.configuration(self._reloader.content)
        self._legacy.go_on()
        self._life.hear(Event.STARTED)
        self._tasks.forever(self._tick, "tick")
        self._tasks.forever(partial(self._reloader.watch, self.reload), "watch")
        follow = self._following.follow
        self._tasks.forever(partial(follow, self._tasks, self._plane, self._life, self._reloader), "follow")
        gc.collect()
        gc.freeze()  # what is alive now lives to the end: the collector need not look at it again and again
        gc.enable()
        self._notifier.ready(self._summary())
        log.info("%s %s", form.this(), self._summary())
        if why := form.why_plain():
            log.info("%s", why)

    # -- stop --------------------------------------------------------------------------------------------------------

    def _told_to_stop(self, number: signal.Signals) -> None:
        """Called at a signal; only SIGQUIT says that no other process will come."""
        self._for_good = self._for_good or number == signal.SIGQUIT
        self._life.hear(Event.STOP)

    async def _stop(self) -> None:
        await self._life.idle()
        if self._life.phase is Phase.GONE:
            begin(Step.LEAVE)
            logs.leave_events()
        else:
            await self._stop_plane()
            self._life.hear(Event.OVER)
        await self._access.close()
        await self._tasks.cancel()
        log.info("stopped")

    async def _stop_plane(self) -> None:
        if not self._for_good and await self._plane.handover.leave():
            log.info("stopping, everything is left to the next process")
            self._notifier.barrier()
            logs.finish()
            os._exit(0)  # every socket is the next one's now, and it waits for us to be gone
        timeout = self._reloader.config.shutdown_timeout
        log.info("stopping, connections have %g s to end", timeout)
        self._notifier.stopping(timeout + _STOP_MARGIN)
        try:
            async with self._life.until(Phase.CUTTING):
                await self._plane.stop(timeout)
        except TimeoutError:
            log.info("told again to stop: cutting all connections now")
            await self._plane.stop(0)

    # -- what is asked -----------------------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        """Return the state of the whole process."""
        plane = await self._plane.snapshot()
        failed = Counter(plane.task_failures)
        failed.update(self._tasks.failures)
        lag = max(plane.loop_lag_seconds, *self._lags)
        return replace(plane, config=self._reloader.view, loop_lag_seconds=lag, task_failures=dict(failed))

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""
        return await self._plane.connections()

    def events(self) -> list[shapes.Event]:
        """Return what has happened, the newest last."""
        return logs.events()

    async def set_drain(self, server: str, drain: bool, force: bool = False) -> bool:
        """Take `server` out of rotation or put it back; False if there is none of that name.

        Raises ControlError for the last of a proxy, without `force`.
        """
        if drain and not force and (proxies := bereft(await self._plane.snapshot(), server)):
            of = ", ".join(proxies)
            raise ControlError(f"{server} is the last server of {of} that takes new connections (see --force)")
        return await self._plane.set_drain(server, drain)

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""
        return await self._plane.rebalance(dry_run)

    def _hangup(self) -> None:
        """Called at SIGHUP: reload, once for all that come before it has begun."""
        if not self._reload_due:
            self._reload_due = True
            self._tasks.spawn(self.reload(), "reload")

    async def reload(self) -> ReloadResult:
        """Read the configuration again and go over to it, or say why not."""
        try:
            async with self._life.turn(Event.RELOAD):
                self._reload_due = False
                self._notifier.reloading()
                result = await self._reloader.reload()
                if self._life.phase is Phase.RELOADING:
                    self._notifier.ready(self._summary() if result.applied else f"reload refused: {result.lines[0]}")
                return result
        except OutOfTurnError as error:
            return ReloadResult(applied=False, lines=(str(error),))

    async def upgrade(self) -> Handed:
        """Start this program anew and hand everything over to it; raises LbproxyError if that fails, and serves on."""
        if not self._notifier.there or os.getpid() == 1:
            raise HandoverError(ALONE)
        try:
            async with self._life.turn(Event.UPGRADE), self._life.until(Phase.STOPPING):
                if not self._notifier.again():
                    raise HandoverError(UNTOLD)
                return await hand_over(self._plane.handover, self._surroundings())
        except TimeoutError:
            raise HandoverError("the daemon was told to stop meanwhile") from None
        except OSError as error:
            raise HandoverError(f"the handover has failed: {error.strerror}") from None

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            name=self._notifier.main_pid,
            release=self._access.release_admin,
            reclaim=self._move_admin,
            gone=partial(self._life.hear, Event.HANDED),
            events=self._legacy.events,
        )

    # -- while it serves ---------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Measure how late the loop runs, tell the watchdog that it runs at all, and look after the control socket."""
        loop = asyncio.get_running_loop()
        pause = min(_TICK, (self._notifier.watchdog_period or 2 * _TICK) / 2)
        self._notifier.alive()  # of a process that is upgraded within the first second it is the only sign
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self._lags.append(max(0.0, loop.time() - due))
            self._notifier.alive()
            if self._life.phase is Phase.SERVING:
                await self._access.look()

    async def _apply(self, config: Config, content: bytes) -> list[str]:
        lines = await self._plane.apply(self._following.merged(config))
        self._legacy.configuration(content)
        old = self._reloader.config
        if config.log != old.log:
            logs.setup(config.log)
        if config.admin != old.admin:
            await self._access.move_admin(config)
        return lines

    async def _move_admin(self) -> None:
        await self._access.move_admin(self._reloader.config)

    def _summary(self) -> str:
        proxies = self._following.merged(self._reloader.config).proxies.values()
        listens = ", ".join(str(at) for proxy in proxies for at in proxy.listen if at not in self._plane.absent)
        return f"listening on {listens or 'nothing yet'} for {sum(len(proxy.servers) for proxy in proxies)} servers"
