"""The process around the data plane: signals, control socket, admin endpoint, reloads, systemd, upgrades."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from lbproxy.config.model import Config
from lbproxy.errors import HandoverError, LbproxyError, YieldError
from lbproxy.handover.custody import Custody
from lbproxy.handover.inherit import Inherited
from lbproxy.handover.keeper import CONFIG
from lbproxy.handover.parcel import memfd
from lbproxy.handover.upgrade import Handed, Predecessor, Successor
from lbproxy.process import log as logs
from lbproxy.process.dataplane import DataPlane
from lbproxy.process.reload import Reloader, ReloadResult
from lbproxy.process.systemd import Notifier
from lbproxy.status.control import ControlServer
from lbproxy.status.render import conns_json, status_json
from lbproxy.status.snapshot import ConnectionView, Snapshot
from lbproxy.tasks import Tasks

if TYPE_CHECKING:
    from lbproxy.status.admin import AdminServer

log = logging.getLogger(__name__)

_TICK = 1.0  # seconds between two measurements of the loop's lag, and at most between two pings of the watchdog
_LAGS = 15  # ticks that the lag shown is the worst of: a usual scrape interval, so that no stall goes unseen
_NO_HANDOVER = "with several workers there is no handover: restart"
_STOP_MARGIN = 5.0  # seconds beyond shutdown_timeout after which systemd may take a stop for hung
_UNTOLD = "systemd does not read what it is told, and would take the end of this process for that of the service"


class Daemon:
    """Owns what surrounds the plane: signals, control socket, admin endpoint, reloads, systemd.

    It is also what the admin endpoint reads its snapshots from.
    """

    def __init__(
        self,
        config: Config,
        file: str,
        plane: DataPlane,
        notifier: Notifier,
        *,
        control: str | None = None,
        error: str | None = None,
    ) -> None:
        """`control` replaces the path in `config`; `error` says why `config` is an older one than the file's."""
        self._plane = plane
        self._file = file
        self._tasks = Tasks()
        self._notifier = notifier
        self._reloader = Reloader(file, config, self._apply, error)
        self._admin: AdminServer | None = None
        self._control = ControlServer(control or config.control, self._commands())
        self._lags: deque[float] = deque([0.0], maxlen=_LAGS)
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()  # a reload or an upgrade
        self._upgrading: asyncio.Task[Any] | None = None
        self._gone = False  # to a successor: every socket is its own now

    async def run(self, predecessor: Predecessor | None = None, inherited: Inherited | None = None) -> int:
        """Serve until SIGTERM or SIGINT; return 0 after that, 1 if it could not start, 69 if the port is another's.

        With a `predecessor`, take over from it; the rest of what it has goes into `inherited`.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._tasks.spawn(self.reload(), "reload"))
        try:
            if predecessor is not None and inherited is not None:
                if self._plane.handover is None:
                    raise HandoverError(_NO_HANDOVER)
                await self._plane.prepare()
                predecessor.ready()
                predecessor.connections(inherited)
                predecessor.have()
                await self._plane.serve()
                await self._control.start(self._tasks, take_over=True)
            else:
                await self._control.start(self._tasks)
                await self._plane.prepare()
                await self._plane.serve()
        except LbproxyError as error:
            log.error("%s", error)
            if predecessor is not None:
                predecessor.refuse(str(error))
            await self._control.stop()
            await self._tasks.cancel()
            if isinstance(error, YieldError) and self._notifier.there:
                self._notifier.ready(str(error))  # to systemd, an orderly end is one that comes after a start
                self._notifier.barrier()
                return os.EX_UNAVAILABLE
            return 1
        await self._move_admin(self._reloader.config)
        if self._reloader.view.last_reload_successful:
            self._remember()
        self._started.set()
        self._tasks.forever(self._tick, "tick")
        watcher = self._tasks.forever(partial(self._reloader.watch, self.reload), "watch")
        gc.collect()
        gc.freeze()  # what is alive now lives to the end: the collector need not look at it again and again
        gc.enable()
        self._notifier.ready(self._summary())
        log.info("%s", self._summary())

        await self._stop.wait()
        watcher.cancel()
        if self._upgrading is not None:
            self._upgrading.cancel()
        async with self._one_at_a_time:
            pass
        await self._reloader.close()
        if not self._gone:
            await self._stop_plane()
        if self._admin:
            await self._admin.stop()
        await self._control.stop()
        await self._tasks.cancel()
        log.info("stopped")
        return 0

    def _told_to_stop(self) -> None:
        (self._cut if self._stop.is_set() else self._stop).set()

    async def _stop_plane(self) -> None:
        if self._plane.handover is not None and self._plane.handover.leave():
            log.info("stopping, everything is left to the next process")
            self._notifier.barrier()
            logs.finish()
            os._exit(0)  # every socket is the next one's now, and it waits for us to be gone
        timeout = self._reloader.config.shutdown_timeout
        log.info("stopping, connections have %g s to end", timeout)
        self._notifier.stopping(timeout + _STOP_MARGIN)
        gently = self._tasks.spawn(self._plane.stop(timeout), "stop")
        second_signal = self._tasks.spawn(self._cut.wait(), "second signal")
        await asyncio.wait({gently, second_signal}, return_when=asyncio.FIRST_COMPLETED)
        if not gently.done():
            log.info("told again to stop: cutting all connections now")
            gently.cancel()
            await asyncio.wait({gently})
            await self._plane.stop(0)

    async def _tick(self) -> None:
        """Measure how late the loop runs, and tell the watchdog that it runs at all."""
        loop = asyncio.get_running_loop()
        pause = min(_TICK, (self._notifier.watchdog_period or 2 * _TICK) / 2)
        while True:
            due = loop.time() + pause
            await asyncio.sleep(pause)
            self._lags.append(max(0.0, loop.time() - due))
            self._notifier.alive()

    async def snapshot(self) -> Snapshot:
        """Return the state of the whole process."""
        plane = await self._plane.snapshot()
        return replace(plane, config=self._reloader.view, loop_lag_seconds=max(self._lags))

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""
        return await self._plane.connections()

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation or put it back; False if there is none of that name."""
        return await self._plane.set_drain(server, drain)

    async def reload(self) -> ReloadResult:
        """Read the configuration again and go over to it, or say why not."""
        await self._started.wait()
        async with self._one_at_a_time:
            if self._gone:
                return ReloadResult(applied=False, lines=("another process has taken over meanwhile: ask again",))
            if not self._stop.is_set():
                self._notifier.reloading()
            verdict = await self._reloader.reload()
            if not self._stop.is_set():
                self._notifier.ready(self._summary() if verdict.applied else f"reload refused: {verdict.lines[0]}")
            return verdict

    async def upgrade(self) -> Handed:
        """Start this program anew and hand everything over to it; raises HandoverError if that fails, and serves on."""
        handover = self._plane.handover
        if handover is None:
            raise HandoverError(_NO_HANDOVER)
        if self._upgrading is not None or self._stop.is_set():
            raise HandoverError("another upgrade or a stop is under way")
        self._upgrading = asyncio.current_task()
        try:
            async with self._one_at_a_time:
                return await self._hand_over(handover)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            raise HandoverError("the daemon was told to stop meanwhile") from None
        except OSError as error:
            raise HandoverError(f"no new process to hand over to: {error.strerror}") from None
        finally:
            self._upgrading = None

    async def _hand_over(self, handover: Custody) -> Handed:
        if not self._notifier.again():
            raise HandoverError(_UNTOLD)
        successor = Successor()
        try:
            version = await successor.prepare(handover)
            count, began = await successor.take(handover)
            if self._admin:
                await self._admin.stop()
            # Nothing waits from here to the end, so nothing comes in between.
            if not self._notifier.main_pid(successor.process.pid):
                raise HandoverError(_UNTOLD)
            successor.go()
        except BaseException:
            successor.give_up()
            handover.thaw()
            raise
        self._gone = True
        self._stop.set()
        return Handed(successor.process.pid, version, count, monotonic() - began)

    def _remember(self) -> None:
        """Leave the configuration in force to a successor that finds a broken file."""
        if self._notifier.keeps:
            try:
                fd = memfd(CONFIG, Path(self._file).read_bytes())
            except OSError:  # removed since it was read: what was remembered last will do
                return
            self._notifier.forget(CONFIG)
            self._notifier.store(CONFIG, [fd])
            os.close(fd)

    async def _apply(self, config: Config) -> list[str]:
        lines = await self._plane.apply(config)
        self._remember()
        old = self._reloader.config
        if config.log != old.log:
            logs.setup(config.log)
        if config.admin != old.admin:
            await self._move_admin(config)
        return lines

    async def _move_admin(self, config: Config) -> None:
        listen = config.admin.listen if config.admin else None
        if self._admin:
            await self._admin.rebind(listen)
        elif listen:
            await asyncio.sleep(0)
            from lbproxy.status.admin import AdminServer  # only now that connections move: its imports take their time

            self._admin = AdminServer(listen, self)
            await self._admin.start(self._tasks)

    def _summary(self) -> str:
        proxies = self._reloader.config.proxies.values()
        listens = ", ".join(str(address) for proxy in proxies for address in proxy.listen)
        return f"listening on {listens} for {sum(len(proxy.servers) for proxy in proxies)} servers"

    def _commands(self) -> Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]:
        """Return what the control socket answers; the client's side of it is in `cli`."""

        async def status(_arguments: dict[str, Any]) -> dict[str, Any]:
            return {"status": status_json(await self.snapshot())}

        async def conns(_arguments: dict[str, Any]) -> dict[str, Any]:
            return {"conns": conns_json(await self.connections())}

        async def reload(_arguments: dict[str, Any]) -> dict[str, Any]:
            verdict = await self.reload()
            return {"applied": verdict.applied, "lines": list(verdict.lines)}

        async def drain(arguments: dict[str, Any]) -> dict[str, Any]:
            return {"ok": await self.set_drain(str(arguments.get("server", "")), True)}

        async def ready(arguments: dict[str, Any]) -> dict[str, Any]:
            return {"ok": await self.set_drain(str(arguments.get("server", "")), False)}

        async def rebalance(arguments: dict[str, Any]) -> dict[str, Any]:
            return {"servers": await self._plane.rebalance(bool(arguments.get("dry_run")))}

        async def upgrade(_arguments: dict[str, Any]) -> dict[str, Any]:
            return asdict(await self.upgrade())

        return {
            "status": status,
            "conns": conns,
            "reload": reload,
            "drain": drain,
            "ready": ready,
            "rebalance": rebalance,
            "upgrade": upgrade,
        }
