"""One proxy at work in several processes (`workers: N`): who decides about its servers, and how the others hear of it.

One process, which carries no connection, checks the servers, looks up their names and holds what clients have found. It
*leads*. Those that carry connections *follow*: each acts at once on what it sees of a server, and passes it on as a
`Sign`; the leader takes it in like its own, and paints a `Picture` of the proxy whenever something has changed. What a
picture says replaces what a follower believed. For a moment a sign and an older picture may cross; the next picture has
both.

With a picture come the columns of the memory in which all count (`balance.shared`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from lbproxy.balance.group import Group
from lbproxy.balance.health import Told
from lbproxy.balance.server import Endpoint, Server
from lbproxy.balance.shared import Shares
from lbproxy.proxy.backend import Backend, Sign
from lbproxy.proxy.sessions import Sessions


class Crew(NamedTuple):
    """What a process knows of the others; one that is alone has none."""

    shares: Shares
    on_sign: Callable[[Backend, Server, Sign], None]
    """Called with what is seen of a server."""
    follows: bool
    """Whether another process leads."""


class Member(NamedTuple):
    """One address of a configured server."""

    place: Endpoint
    column: int
    told: Told
    recovered_at: float
    circular: str
    unproved: bool


class Row(NamedTuple):
    """One configured server."""

    key: tuple[str, str]
    column: int
    nowhere: str
    members: tuple[Member, ...]


class Picture(NamedTuple):
    """One proxy, as its leader sees it."""

    column: int
    rows: tuple[Row, ...]


def paint(backend: Backend, column: Callable[[Hashable], int]) -> Picture:
    """Return the picture; `column` tells the column of whatever is counted, by a key, and is asked for each.

    From then on the leader's own servers know what all processes carry.
    """
    name, shares = backend.name, backend.pool.shares
    rows: list[Row] = []
    for group in backend.pool.groups:
        row = Row(group.key, column((name, group.key)), group.members[0].nowhere, _members(name, group, column))
        rows.append(row)
        if shares is not None:
            group.counts.share(shares.cell(row.column))
            columns = {member.place: member.column for member in row.members}
            for server in group.members:
                if server.endpoint is not None:
                    server.share(shares.cell(columns[server.endpoint]))
    return Picture(column(name), tuple(rows))


def _members(name: str, group: Group, column: Callable[[Hashable], int]) -> tuple[Member, ...]:
    members: list[Member] = []
    for server in group.members:
        place = server.endpoint
        if place is not None:
            at = column((name, group.key, place))
            told = server.health.tell()
            members.append(Member(place, at, told, server.recovered_at, server.circular, server.unproved))
    return tuple(members)


def believe(backend: Backend, sessions: Sessions, picture: Picture, now: float) -> None:
    """Go over to what the leader sees. A server that is not configured here, or not any more, is passed over."""
    shares = backend.pool.shares
    if shares is None:
        return
    sessions.share(shares.cell(picture.column))
    rows = {row.key: row for row in picture.rows}
    told: list[tuple[Server, Member]] = []
    for group in backend.pool.groups:
        row = rows.get(group.key)
        if row is None:
            continue
        group.counts.share(shares.cell(row.column))
        if row.members:
            backend.agree(group, [member.place for member in row.members], now)
        members = {member.place: member for member in row.members}
        for server in group.members:
            server.nowhere = row.nowhere
            member = members.get(server.endpoint) if server.endpoint is not None else None
            if member is not None:
                server.share(shares.cell(member.column))
                server.circular, server.unproved = member.circular, member.unproved
                told.append((server, member))
    backend.believe([(server, member.told) for server, member in told])
    for server, member in told:
        server.recovered_at = member.recovered_at


def find(backend: Backend, key: tuple[str, str], place: Endpoint | None) -> Server | None:
    """Return the server that a follower's sign is about, None if there is none such any more."""
    for group in backend.pool.groups:
        if group.key == key:
            for server in group.members:
                if server.endpoint == place:
                    return server
    return None
