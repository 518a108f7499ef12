"""A proxy as it is now, in the frozen values that metrics, status and `lbproxy conns` are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lbproxy.balance.server import Server
from lbproxy.config.model import Address
from lbproxy.net import sockets as socks
from lbproxy.proxy.backend import Backend
from lbproxy.proxy.session import Session
from lbproxy.proxy.sessions import Sessions
from lbproxy.status.snapshot import ConnectionView, ProxyView, ServerView


def proxy_view(backend: Backend, sessions: Sessions, listen: Iterable[Address], now: float) -> ProxyView:
    """Return what a proxy is and has done."""
    live: dict[Server, tuple[int, int]] = {}
    for session in sessions:
        server = session.server
        if server is not None:
            up, down = live.get(server, (0, 0))
            moved = session.bytes_moved()
            live[server] = (up + moved[0], down + moved[1])
    servers = [_server_view(server, live.get(server, (0, 0)), now) for server in backend.pool.servers]
    return ProxyView(
        name=backend.name,
        listen=tuple(map(str, listen)),
        connections=len(sessions),
        connections_total=sessions.total,
        rejected=dict(sessions.rejected),
        closed=dict(sessions.closed),
        servers=tuple(servers),
    )


def _server_view(server: Server, live: tuple[int, int], now: float) -> ServerView:
    """Return what a server is and has done; `live` are the bytes of its open connections (up, down)."""
    state, reason, since = server.state()
    return ServerView(
        name=server.name,
        address=str(server.settings.address),
        state=state,
        reason=reason,
        since_seconds=max(0.0, now - since),
        weight=server.weight,
        backup=server.backup,
        connections=server.connections,
        connections_total=server.connections_total,
        connect_failures=dict(server.failures),
        bytes_in_total=server.bytes_in + live[0],
        bytes_out_total=server.bytes_out + live[1],
        connect_seconds=server.connect_seconds.view(),
        first_byte_seconds=server.first_byte_seconds.view(),
        checks=dict(server.checks),
        flips_total=server.transitions,
        replays_total=server.replays,
        cuts=dict(server.cuts),
    )


def connection_views(backend: Backend, sessions: Sessions, now: float) -> Iterator[ConnectionView]:
    """Yield the open connections of a proxy, oldest first; any may end meanwhile."""
    name = backend.name
    return (_connection_view(name, each, now) for each in sorted(sessions, key=lambda each: each.born))


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
