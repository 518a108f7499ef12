"""What the daemon does for each command of `status.commands`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from lbproxy import __version__
from lbproxy.handover.upgrade import Handed
from lbproxy.process.reload import ReloadResult
from lbproxy.status.slices import in_slices
from lbproxy.status.snapshot import ConnectionView, Snapshot

if TYPE_CHECKING:
    from lbproxy.status import commands as asked
    from lbproxy.status.shapes import Event


class Operable(Protocol):
    """The daemon, as its operator sees it. What it refuses it raises as an LbproxyError."""

    async def snapshot(self) -> Snapshot:
        """Return the state of the whole process."""

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""

    def events(self) -> list[Event]:
        """Return what has happened, the newest last."""

    async def reload(self) -> ReloadResult:
        """Read the configuration again and go over to it, or say why not."""

    async def set_drain(self, server: str, drain: bool, force: bool = False) -> bool:
        """Take `server` out of rotation or put it back; False if there is none of that name.

        Without `force` a server that is the last of a proxy is left in.
        """

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""

    async def upgrade(self) -> Handed:
        """Start this program anew and hand everything over to it."""


def commands(daemon: Operable) -> Mapping[str, asked.Handler]:
    """Return what may be asked of `daemon` over the control socket, by name."""
    return _shown(daemon) | _done(daemon)


def _shown(daemon: Operable) -> dict[str, asked.Handler]:
    """Return what only looks."""
    from lbproxy.status import commands as asked  # nobody asks before the ports listen
    from lbproxy.status.render import conn_json, status_json

    async def status(_: asked.NoArguments) -> asked.StatusAnswer:
        return {"status": status_json(await daemon.snapshot())}

    async def conns(_: asked.NoArguments) -> asked.ConnsAnswer:
        found = await in_slices(map(conn_json, await daemon.connections()))
        return {"conns": found[0]}

    async def events(_: asked.NoArguments) -> asked.EventsAnswer:
        return {"events": daemon.events()}

    return dict((asked.STATUS.bind(status), asked.CONNS.bind(conns), asked.EVENTS.bind(events)))


def _done(daemon: Operable) -> dict[str, asked.Handler]:
    """Return what changes something."""
    from lbproxy.status import commands as asked

    async def reload(_: asked.NoArguments) -> asked.ReloadAnswer:
        result = await daemon.reload()
        return {"applied": result.applied, "lines": list(result.lines)}

    async def drain(arguments: asked.DrainArguments) -> asked.ServerAnswer:
        return {"ok": await daemon.set_drain(arguments["server"], True, arguments.get("force", False))}

    async def ready(arguments: asked.ServerArguments) -> asked.ServerAnswer:
        return {"ok": await daemon.set_drain(arguments["server"], False)}

    async def rebalance(arguments: asked.RebalanceArguments) -> asked.RebalanceAnswer:
        return {"servers": await daemon.rebalance(arguments["dry_run"])}

    async def upgrade(_: asked.NoArguments) -> asked.UpgradeAnswer:
        return _answer(await daemon.upgrade())

    return dict(
        (
            asked.RELOAD.bind(reload),
            asked.DRAIN.bind(drain),
            asked.READY.bind(ready),
            asked.REBALANCE.bind(rebalance),
            asked.UPGRADE.bind(upgrade),
        )
    )


def _answer(done: Handed) -> asked.UpgradeAnswer:
    return {
        "pid": done.pid,
        "version": done.version,
        "before": __version__,
        "connections": done.connections,
        "pause": done.pause,
    }
