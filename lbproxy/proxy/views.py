"""A proxy as it is now, in the frozen values that metrics, status and `lbproxy conns` are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lbproxy.balance.counts import Counts
from lbproxy.balance.group import Group
from lbproxy.balance.server import Server
from lbproxy.config.model import Address
from lbproxy.net import sockets as socks
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.session import Session
from lbproxy.proxy.sessions import Sessions
from lbproxy.status.snapshot import ConnectionView, ProxyView, ServerView


def proxy_view(backend: Backend, sessions: Sessions, listen: Iterable[Address], now: float) -> ProxyView:
    """Return what a proxy is and has done."""
    live: dict[Counts, tuple[int, int]] = {}
    connecting = 0
    for session in sessions:
        server = session.server
        if server is not None:
            up, down = live.get(server.counts, (0, 0))
            moved = session.bytes_moved()
            live[server.counts] = (up + moved[0], down + moved[1])
        else:
            connecting += 1
    servers = [_server_view(group, live.get(group.counts, (0, 0)), now) for group in backend.pool.groups]
    return ProxyView(
        name=backend.name,
        listen=tuple(map(str, listen)),
        connections=len(sessions),
        connecting=connecting,
        connections_total=sessions.total,
        max_connections=backend.max_connections,
        rejected=dict(sessions.rejected),
        closed=dict(sessions.closed),
        lived_seconds=sessions.lived.view(),
        servers=tuple(servers),
    )


def _server_view(group: Group, live: tuple[int, int], now: float) -> ServerView:
    """Return what a configured server is and has done; `live` are the bytes of its open connections (up, down)."""
    state, reason, since = group.state()
    settings, counts = group.settings, group.counts
    expiries = [server.certificate_expires for server in group.members if server.certificate_expires]
    return ServerView(
        name=settings.name,
        address=str(settings.address),
        state=state,
        reason=reason,
        since_seconds=max(0.0, now - since),
        weight=settings.weight,
        max_conns=settings.max_conns,
        backup=settings.backup,
        source=settings.source,
        held_back=all(map(_unproved, group.members)),
        connections=counts.connections,
        connections_total=counts.connections_total,
        connect_failures=dict(counts.failures),
        bytes_in_total=counts.bytes_in + live[0],
        bytes_out_total=counts.bytes_out + live[1],
        connect_seconds=counts.connect_seconds.view(),
        first_byte_seconds=counts.first_byte_seconds.view(),
        checks=dict(counts.checks),
        checked_seconds_ago=now - counts.checked_at if counts.checked_at >= 0 else None,
        check_took_seconds=counts.check_took if counts.checked_at >= 0 else None,
        certificate_expires=min(expiries, default=None),
        named=not socks.family_of(settings.address.host),
        resolve_failures_total=counts.resolve_failures,
        resolved_seconds_ago=now - counts.resolved_at if counts.resolved_at >= 0 else None,
        flips_total=counts.transitions,
        replays_total=counts.replays,
        cuts=dict(counts.cuts),
    )


def _unproved(server: Server) -> bool:
    return server.unproved


def connection_views(backend: Backend, sessions: Sessions, now: float) -> Iterator[ConnectionView]:
    """Yield the open connections of a proxy, oldest first; any may end meanwhile."""
    name = backend.name
    for each in sorted(sessions, key=lambda each: each.born):  # a generator expression is a list when compiled
        yield _connection_view(name, each, now)


def _connection_view(proxy: str, session: Session, now: float) -> ConnectionView:
    to_server, to_client = session.bytes_moved()
    server = session.server
    link = session.link
    age = now - session.born
    return ConnectionView(
        proxy=proxy,
        server=server.name if server is not None else "",
        client=socks.name(session.peer),
        age_seconds=age,
        idle_seconds=min(link.idle(), age) if link is not None else age,
        bytes_in=to_server,
        bytes_out=to_client,
    )
