"""What must hold: always, at the end of each connection, and when all is over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from lbproxy.balance.state import State
from lbproxy.balance.suspicion import ON_TRIAL
from lbproxy.handover.marks import SLOT
from tests.sim.clients import HALF_CLOSES, LEAVES, READS_NEVER, SAYS_NOTHING, STUTTERS, UPLOADS, Client
from tests.sim.servers import CLOSING, GONE, HASTY, HUNG, RESETTING, SILENT, SLOW, WELL
from tests.sim.talk import Talk

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


class End(NamedTuple):
    """What the access log has said of a connection."""

    reason: str
    to_server: int
    to_client: int


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
        if chosen.backup:
            world.wrong(f"{chosen.name} was chosen, a backup, and {other.name} is up")
        elif not chosen.usable():
            world.wrong(f"{chosen.name} was chosen, which is {chosen.health.state}, and {other.name} is up")
        elif (chosen.connections - 1) / chosen.weight > other.connections / other.weight:
            world.wrong(f"{chosen.name} was chosen with {chosen.connections - 1}, {other.name} has {other.connections}")


def arrived(world: World, server: str, talk: Talk, more: int) -> None:
    """Check whom a client's first words reach, now that they are at a server with `more` bytes behind them.

    Only a lone ClientHello may reach several servers, and what comes behind it goes to one of them. When that has got
    some of it nobody else is asked any more; who was asked before may still get to read what was said then.
    """
    there = world.flights.setdefault(talk.client, [])
    named = world.clients[talk.client].peer if world.config.proxy_protocol == "v2" else None
    if talk.named != named:
        world.wrong(f"client {talk.client} is {named}, and {server} was told that it is {talk.named}")
    if talk not in there:
        there.append(talk)
        if len(there) > 1 and not world.clients[talk.client].tls:
            world.wrong(f"client {talk.client}, who speaks no TLS, has reached two servers, the last one {server}")
    if more and not talk.more_at:
        talk.more_at = world.kernel.now
        if sum(each.more_at > 0 for each in there) > 1:
            world.wrong(f"client {talk.client}: more than a ClientHello has reached two servers, the last one {server}")
    if any(0 < each.more_at < talk.began for each in there):
        world.wrong(f"client {talk.client} had said more than its ClientHello when {server} was asked")


def client_over(world: World, client: Client) -> None:
    """Check how a connection has ended for the client."""
    talk = client.talk
    told = world.flights.get(client.number, [])
    if client.peer in world.lost:
        return  # the kernel has closed it, with a FIN if all was read
    if talk.closed and not talk.resets:
        # One that ends a connection at once has not waited for the client's first words.
        unheard = not talk.heard and _ever(world, CLOSING, client.began - 1, world.kernel.now)
        if not told:
            if talk.heard or not (talk.finished or unheard):
                world.wrong(f"client {client.number} ({client.kind}) was sent FIN by nobody")
        elif not (unheard or any(each.finished and each.said == talk.heard for each in told)):
            said = [(each.said, each.finished, each.resets) for each in told]
            world.wrong(f"client {client.number} ({client.kind}): FIN after {talk.heard} bytes; servers: {said}")
    for each in told:
        if each.closed and not each.resets and not (talk.finished and each.heard == talk.said):
            world.wrong(f"client {client.number}: a server has FIN after {each.heard}, {talk.said} were said")


def cut(world: World, host: Host, server: str, reason: str) -> None:
    """Check a decision of lbproxy's own when it is carried out: nothing is cut where no better place is."""
    asked = reason in ("server_down", "server_sick") and host.serves
    if asked and not any(each.usable() for each in host.proxy.backend.pool.servers):
        world.wrong(f"a connection to {server} was cut for {reason}, and no other server is up")


def still_there(world: World, client: Client) -> None:
    """Check a connection that is not over although all has been well for long: nothing stands still."""
    if client.kind in (SAYS_NOTHING, READS_NEVER, LEAVES) or client.peer in world.lost:
        return
    heard = client.talk.heard
    world.wrong(f"client {client.number} ({client.kind}) stands still after {heard} of {client.expected} bytes")


def judged(world: World, client: Client) -> None:
    """Check at the end of all why a client was cut, or not served."""
    talk = client.talk
    told = world.flights.get(client.number, [])
    over = client.over_at or world.kernel.now
    end = world.ends.get(client.peer)
    whole = talk.closed and not talk.was_reset and not talk.resets and not world.holed(client.peer)
    if whole and end is not None and end.reason in ("client_fin", "server_fin"):
        # A server that ends it first, and before its first byte, need not have been sent all of it.
        lacks = client.flight + talk.said - end.to_server
        if end.to_client != talk.heard or lacks < 0 or (lacks and (end.reason == "client_fin" or talk.heard)):
            world.wrong(f"client {client.number} has heard {talk.heard}, and said {lacks} more than went on: {end}")
    unexpected = talk.was_reset and not talk.resets
    promised = _promised(world, client)
    served = client.first_byte_at and client.first_byte_at - client.began <= PROMISE
    if promised and not served:
        world.wrong(
            f"client {client.number} ({client.kind}, {'TLS' if client.tls else 'plain'}) was not served in time"
        )
    if not unexpected or client.peer in world.lost:
        return
    reason = end.reason if end is not None else None
    if reason is None:
        if not world.holed(client.peer) and not world.config.max_connections:
            world.wrong(f"client {client.number} was cut, and nobody has said why")
    elif reason == "error" or (reason.startswith("client") and not talk.finished):
        world.wrong(f"client {client.number} was cut for {reason}")
    elif reason == "rebalance" and world.config.rebalance.per_minute:
        pass  # it may at any time move what is quiet
    elif reason in OURS and not OURS[reason] & world.did:
        world.wrong(f"client {client.number} was cut for {reason}, and nothing of that kind has happened")
    elif reason in ("server_rst", "server_fin") and told and not any(each.resets or each.finished for each in told):
        world.wrong(f"client {client.number} was cut for {reason}, and no server has ended it")
    elif reason == "server_timeout" and not _ever(world, SILENT, client.began - 1, over):
        world.wrong(f"client {client.number} was cut for {reason}, and no server was silent")


def _ever(world: World, state: str, begin: float, end: float) -> bool:
    """Whether any server was ever in a state in that time."""
    return any(server.ever(state, begin, end) for server in world.servers)


def _promised(world: World, client: Client) -> bool:
    """Whether nothing excuses it if the client is not served."""
    if client.kind in (LEAVES, SAYS_NOTHING, READS_NEVER) or world.story.limited:
        return False
    begin, end = client.began - 30.0, client.began + PROMISE
    if end > world.kernel.now or any(begin <= at <= end for at, what in world.done if what != "server"):
        return False
    # A whole ClientHello and nothing behind it may be said again.
    lone = world.config.first_byte_timeout and client.tls and client.kind not in (HALF_CLOSES, STUTTERS)
    deaf = (HASTY,) if client.kind == UPLOADS else ()  # who may have heard enough before it answers
    if not lone and any(
        _ever(world, state, begin, end) for state in (HUNG, RESETTING, SLOW, SILENT, GONE, CLOSING, *deaf)
    ):
        return False
    return any(
        server.only(WELL, begin, end) and world.story.in_rotation(at, begin - 1000, end - 1000)
        for at, server in enumerate(world.servers)
    )


def at_rest(world: World, host: Host) -> None:
    """Check that nothing is left when nobody is connected any more."""
    proxy = host.proxy
    counts = {group.settings.name: group.counts.connections for group in proxy.backend.pool.groups}
    left = {name: count for name, count in counts.items() if count}
    if left or len(proxy.sessions) or host.limit.open:
        world.wrong(f"left over: leases {left}, {len(proxy.sessions)} sessions, {host.limit.open} counted")
    if host.poller.pipes._lent:
        world.wrong(f"left over: {host.poller.pipes._lent} pipes")
    kinds = Counter(type(file).__name__ for file in host.process.files.values())
    pipes = host.poller.pipes._count
    expected = {"Epoll": 1, "Listener": 1, "Memory": 1, "QueueEnd": 1, "PipeEnd": 2 * pipes}
    if +kinds != +Counter(expected):
        world.wrong(f"left over: descriptors {dict(kinds)}, with {pipes} spare pipes")
    timed = Counter(type(timer).__name__ for slot in host.poller.timers._slots.values() for timer in slot.timers)
    if timed["Session"]:
        world.wrong(f"left over: timers {dict(timed)}")
    marks = host.custody.marks
    slots = marks.page[SLOT : (marks._top + 1) * SLOT] if marks is not None else b""  # those above were another's
    if host.custody.kept or any(slots):
        world.wrong(f"left over: {host.custody.kept} connections kept, or marks of some")
    total, closed = proxy.sessions.total, sum(proxy.sessions.closed.values()) + sum(proxy.sessions.rejected.values())
    if total + host.custody.handed.get("success", 0) != closed:
        world.wrong(f"{total} came, {host.custody.handed} were taken over, and {closed} have ended")


def is_well(world: World, host: Host) -> bool:
    """Whether all servers are up again, as far as anybody looks, and known by name, and none is left drained."""
    looks = world.config.health is not None
    servers = host.proxy.backend.pool.servers
    return all(
        each.endpoint is not None and not each.manual and (not looks or each.health.state is State.UP)
        for each in servers
    )


def well_again(world: World, host: Host) -> None:
    """Check that within a bound after the last fault all servers are up again, and all clients are served by them."""
    for number, client in world.clients.items():
        if number >= 10_000 and not client.first_byte_at:
            world.wrong(f"client {number} was not served after the last fault")
    for server in host.proxy.backend.pool.servers:
        if world.config.health is not None and server.health.state is not State.UP and not server.manual:
            world.wrong(f"{server.name} is {server.health.state} long after the last fault: {server.health.reason}")
