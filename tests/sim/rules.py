"""What must hold: always, at the end of each connection, and when all is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lbproxy.balance.state import State
from lbproxy.balance.suspicion import ON_TRIAL
from tests.sim.clients import HALF_CLOSES, LEAVES, READS_NEVER, SAYS_NOTHING, Client
from tests.sim.servers import GONE, HUNG, RESETTING, SILENT, SLOW, WELL, Server
from tests.sim.talk import Talk
from tests.sim.tcp import Endpoint

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.world import World

PROMISE = 12.0
"""Seconds within which a client is served while a server is well: connect_deadline (3 s), and twice first_byte_timeout
(3 s) with what it takes to connect again."""
OURS = {
    "server_down": {"server"}, "server_sick": {"server"}, "drained": {"drain", "reload"}, "removed": {"reload"},
    "rebalance": {"rebalance"}, "shutdown": {"restart"},
}  # fmt: skip
"""Why lbproxy cuts by its own decision, and what must have happened for that."""


def picked(world: World, pool: Any, lease: Any, now: float, tried: Any) -> None:
    """Check a choice: least connections among those that are simply well, and never beyond a limit."""
    if lease is None:
        return
    chosen = lease.server
    if chosen.max_conns and chosen.counts.connections > chosen.max_conns:
        world.wrong(f"{chosen.name} has {chosen.counts.connections} of {chosen.max_conns} connections")
    if chosen.disabled or chosen.manual:
        world.wrong(f"{chosen.name} was chosen, and is out of rotation")
    most, there = world.config.max_connections, len(world.host.proxy.sessions)
    if most and there > most:
        world.wrong(f"{there} connections, of {most}")
    if chosen not in pool.servers:
        world.wrong(f"{chosen.name} was chosen, which is not configured any more")
    if chosen.health.suspicion.standing == ON_TRIAL:
        return
    for other in pool.servers:
        well = other.usable() and not other.backup and other.health.checked.sure and other.health.severity == 0
        full = other.max_conns and other.counts.connections >= other.max_conns
        if other is chosen or other in tried or not well or full or now - other.recovered_at < pool._slow_start:
            continue
        if not chosen.usable():
            world.wrong(f"{chosen.name} was chosen, which is {chosen.health.state}, and {other.name} is up")
        elif (chosen.connections - 1) / chosen.weight > other.connections / other.weight:
            world.wrong(f"{chosen.name} was chosen with {chosen.connections - 1}, {other.name} has {other.connections}")


def flight_arrived(world: World, server: Server, talk: Talk) -> None:
    """Check that what a client has said first goes to one server, unless it was a lone ClientHello."""
    if talk.end.gone:
        return  # it was left meanwhile; nobody will ever see what comes of it
    before = world.flights.setdefault(talk.client, [])
    client = world.clients[talk.client]
    if before and not client.tls:
        world.wrong(f"client {talk.client}, who speaks no TLS, has reached two servers, the last one {server.host}")
    if before and any(each.heard for each in before):
        world.wrong(f"client {talk.client} had said more than its ClientHello, and reaches {server.host}")
    before.append(talk)


def client_over(world: World, client: Client) -> None:
    """Check how a connection has ended for the client."""
    talk = client.talk
    told = world.flights.get(client.number, [])
    if client.peer in world.lost:
        return  # the kernel has closed it, with a FIN if all was read
    if talk.closed and not talk.resets:
        if not told:
            if not talk.finished or talk.heard:
                world.wrong(f"client {client.number} ({client.kind}) was sent FIN by nobody")
        elif not any(each.finished and each.said == talk.heard for each in told):
            said = [(each.said, each.finished, each.resets) for each in told]
            world.wrong(f"client {client.number} ({client.kind}): FIN after {talk.heard} bytes; servers: {said}")
    for each in told:
        if each.closed and not each.resets and not (talk.finished and each.heard == talk.said):
            world.wrong(f"client {client.number}: a server has FIN after {each.heard}, {talk.said} were said")


def cut(world: World, host: Host, server: str, reason: str) -> None:
    """Check a decision of lbproxy's own when it is carried out: nothing is cut where no better place is."""
    if reason in ("server_down", "server_sick") and host.serves:
        others = [each for each in host.proxy.backend.pool.servers if each.name != server]
        if not any(each.usable() for each in others):
            world.wrong(f"a connection to {server} was cut for {reason}, and no other server is up")


def still_there(world: World, client: Client) -> None:
    """Check a connection that is not over although all has been well for long: nothing stands still."""
    if client.kind in (SAYS_NOTHING, READS_NEVER, LEAVES) or client.peer in world.lost:
        return
    heard = client.talk.heard
    world.wrong(f"client {client.number} ({client.kind}) stands still after {heard} of {client.expected} bytes")


def judged(world: World, client: Client) -> None:
    """Check at the end of all why a client was cut, or not served, and whom its first words have reached."""
    seen = world.seen.get(client.number, {})
    if len(seen) > 1 and (not client.tls or sum(more > 0 for more in seen.values()) > 1):
        world.wrong(f"client {client.number}: more than a ClientHello has reached {len(seen)} servers")
    talk = client.talk
    told = world.flights.get(client.number, [])
    over = client.over_at or world.kernel.now
    unexpected = talk.was_reset and not talk.resets
    promised = _promised(world, client)
    served = client.first_byte_at and client.first_byte_at - client.began <= PROMISE
    if promised and not served:
        world.wrong(
            f"client {client.number} ({client.kind}, {'TLS' if client.tls else 'plain'}) was not served in time"
        )
    if not unexpected:
        return
    reason = world.reasons.get(client.peer)
    if reason is None:
        if client.peer not in world.lost and not world.holed(client.peer) and not world.config.max_connections:
            world.wrong(f"client {client.number} was cut, and nobody has said why")
    elif reason == "error" or (reason.startswith("client") and not talk.finished):
        world.wrong(f"client {client.number} was cut for {reason}")
    elif reason == "rebalance" and world.config.rebalance.per_minute:
        pass  # it may at any time move what is quiet
    elif reason in OURS and not OURS[reason] & world.did:
        world.wrong(f"client {client.number} was cut for {reason}, and nothing of that kind has happened")
    elif reason in ("server_rst", "server_fin") and told and not any(each.resets or each.finished for each in told):
        world.wrong(f"client {client.number} was cut for {reason}, and no server has ended it")
    elif reason == "server_timeout" and not world.ever(SILENT, client.began - 1, over):
        world.wrong(f"client {client.number} was cut for {reason}, and no server was silent")


def _promised(world: World, client: Client) -> bool:
    """Whether nothing excuses it if the client is not served."""
    if client.kind in (LEAVES, SAYS_NOTHING, READS_NEVER) or not client.want:
        return False
    config = world.config
    if config.max_connections or any(server.max_conns for server in config.servers):
        return False
    begin, end = client.began - 30.0, client.began + PROMISE
    if end > world.kernel.now or any(begin <= at <= end for at, what in world.done if what != "server"):
        return False
    lone = client.tls and client.kind != HALF_CLOSES  # a ClientHello and nothing behind it may be said again
    if not lone and any(world.ever(state, begin, end) for state in (HUNG, RESETTING, SLOW, SILENT, GONE)):
        return False
    return any(server.only(WELL, begin, end) for server in world.servers)


def at_rest(world: World, host: Host) -> None:
    """Check that nothing is left when nobody is connected any more."""
    proxy = host.proxy
    counts = {group.settings.name: group.counts.connections for group in proxy.backend.pool.groups}
    left = {name: count for name, count in counts.items() if count}
    if left or len(proxy.sessions) or host.limit.open:
        world.wrong(f"left over: leases {left}, {len(proxy.sessions)} sessions, {host.limit.open} counted")
    if host.poller.pipes._lent:
        world.wrong(f"left over: {host.poller.pipes._lent} pipes")
    open_ends = [fd for fd, file in host.process.files.items() if isinstance(file, Endpoint)]
    if open_ends:
        world.wrong(f"left over: descriptors {open_ends} of connections")
    total, closed = proxy.sessions.total, sum(proxy.sessions.closed.values()) + sum(proxy.sessions.rejected.values())
    if total + host.custody.handed.get("success", 0) != closed:
        world.wrong(f"{total} came, {host.custody.handed} were taken over, and {closed} have ended")


def well_again(world: World, host: Host) -> None:
    """Check that after the last fault all servers are up again, and clients are served by them."""
    for server in host.proxy.backend.pool.servers:
        if world.config.health is not None and server.health.state is not State.UP and not server.manual:
            world.wrong(f"{server.name} is {server.health.state} long after the last fault: {server.health.reason}")
