"""Whose turn it is among equals: smooth weighted round robin, begun somewhere else on every node.

Connections that come one after another, each closed before the next, find all servers equal each time. A fixed order
would send them all to one server, and weights would have no effect. So equals take turns: each gains its weight, the
one that has most is chosen and pays what all have gained (nginx's smooth weighted round robin, which HAProxy's order by
last use comes to as well). Over as many picks as the weights add up to each has had as many as its weight, and never
two in a row that could have been spread.

Where a node begins is up to the node: the first place goes by weighted rendezvous hashing (Thaler and Ravishankar 1996;
the weights after Schindelhauer and Schomaker 2005) of node id and server name (and address, where a
name has them). A thousand nodes with a connection each
spread by weight, and when a server goes only its own share moves.
"""

from __future__ import annotations

from hashlib import blake2b
from math import log
from typing import Final

from lbproxy.balance.server import Server

_MOST_STEPS: Final = 10_000
"""Of looking for the beginning; a ring of hundreds of servers begins where it is by then."""


def ring(servers: list[Server], node_id: str) -> list[Server]:
    """Return the servers in this node's order, and set their turns so that the first one is next."""
    ordered = sorted(servers, key=lambda server: _distance(node_id, server))
    for server in ordered:
        server.turn = 0
    for _ in range(_MOST_STEPS):
        turns = [server.turn for server in ordered]
        if not ordered or take_turn(ordered) is ordered[0]:
            for server, turn in zip(ordered, turns, strict=True):
                server.turn = turn
            break
    return ordered


def take_turn(equals: list[Server]) -> Server:
    """Return whose turn it is, and have the others come nearer to theirs; `equals` are in the order of the ring."""
    total = 0
    best = equals[0]
    for server in equals:
        server.turn += server.weight
        total += server.weight
        if server.turn > best.turn:
            best = server
    best.turn -= total
    return best


def pass_over(server: Server, servers: list[Server]) -> None:
    """Have `server` miss a turn among `servers`: the next one that it would have had as an equal is another's."""
    for each in servers:
        server.turn -= each.weight


def _distance(node_id: str, server: Server) -> float:
    who = f"{server.name}\0{server.place}" if server.place else server.name
    digest = blake2b(f"{node_id}\0{who}".encode(), digest_size=8).digest()
    return -log(1 - int.from_bytes(digest, "big") / 2**64 * (1 - 2**-53)) / server.weight
