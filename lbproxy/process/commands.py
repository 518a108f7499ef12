"""What the control socket answers; the client's side of it is in `cli`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from lbproxy.handover.upgrade import Handed
from lbproxy.process.reload import ReloadResult
from lbproxy.status.control import Command
from lbproxy.status.render import conns_json, status_json
from lbproxy.status.snapshot import ConnectionView, Snapshot

Request = dict[str, object]
Answer = dict[str, object]


class Operable(Protocol):
    """The daemon, as its operator sees it. What it refuses it raises as an LbproxyError."""

    async def snapshot(self) -> Snapshot:
        """Return the state of the whole process."""

    async def connections(self) -> list[ConnectionView]:
        """Return the open connections."""

    async def reload(self) -> ReloadResult:
        """Read the configuration again and go over to it, or say why not."""

    async def set_drain(self, server: str, drain: bool) -> bool:
        """Take `server` out of rotation or put it back; False if there is none of that name."""

    async def rebalance(self, dry_run: bool) -> dict[str, int]:
        """Close quiet surplus connections once, or only count them; returns how many, by server name."""

    async def upgrade(self) -> Handed:
        """Start this program anew and hand everything over to it."""


def commands(daemon: Operable) -> Mapping[str, Command]:
    """Return what may be asked of `daemon`: each takes the request and returns the answer."""

    async def status(_request: Request) -> Answer:
        return {"status": status_json(await daemon.snapshot())}

    async def conns(_request: Request) -> Answer:
        return {"conns": conns_json(await daemon.connections())}

    async def reload(_request: Request) -> Answer:
        result = await daemon.reload()
        return {"applied": result.applied, "lines": list(result.lines)}

    async def drain(request: Request) -> Answer:
        return {"ok": await daemon.set_drain(str(request.get("server", "")), True)}

    async def ready(request: Request) -> Answer:
        return {"ok": await daemon.set_drain(str(request.get("server", "")), False)}

    async def rebalance(request: Request) -> Answer:
        return {"servers": await daemon.rebalance(bool(request.get("dry_run")))}

    async def upgrade(_request: Request) -> Answer:
        return asdict(await daemon.upgrade())

    every = (status, conns, reload, drain, ready, rebalance, upgrade)
    return {command.__name__: command for command in every}
