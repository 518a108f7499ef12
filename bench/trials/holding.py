"""Trials of established connections: who is cut, when, and where they go; and that ends are passed on as they are."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from bench.trials.arrivals import BAD
from bench.trials.clients import Held
from bench.trials.results import Fact, Result, cuts, spread
from bench.trials.stage import Scene
from tests.support.clients import connect, receive_all
from tests.support.servers import pattern

HELD = 30
SIZE = 256 * 1024
_LOST = 45.0
"""Seconds after which a client that keeps watch itself (client-go) would have noticed: nobody need wait longer."""


def dropped(scene: Scene) -> Result:
    """Have the switch forward nothing to one any more."""
    return _cut(scene, lambda: scene.net.kill(BAD, "unbridge"), 15)


def stopped(scene: Scene) -> Result:
    """Stop the process of one: its kernel goes on to acknowledge."""
    return _cut(scene, lambda: scene.net.kill(BAD, "freeze"), 20)


def _cut(scene: Scene, fail: Callable[[], None], patience: float) -> Result:
    held = scene.clients.hold(HELD, busy=HELD // 2)
    hit = [each for each in held if each.server == BAD]
    fail()
    since = time.monotonic()
    end = since + (patience if scene.daemon else _LOST)
    while time.monotonic() < end and not all(each.back for each in hit):
        time.sleep(0.05)
    time.sleep(1)
    return Result([], {"held at it": len(hit), **_fate(hit, since), **_others(held)})


def _fate(hit: list[Held], since: float) -> dict[str, Fact]:
    idle, busy = (cuts([each for each in hit if each.busy is kind], since) for kind in (False, True))
    back = [each.back for each in hit if each.back is not None]
    whole = sum(each.ended is None for each in hit)
    return {
        "not cut": whole,
        "idle cut by s": round(idle[-1], 1) if idle else None,
        "busy cut by s": round(busy[-1], 1) if busy else None,
        "not back": len(hit) - whole - len(back),
        "back at": spread(each.server for each in back),
        "back at it": sum(each.server == BAD for each in back),
        "back within ms": round(1000 * max((each.seconds for each in back), default=0.0), 1),
        "tries to come back that failed": sum(each.refused for each in hit),
    }


def _others(held: list[Held]) -> dict[str, Fact]:
    return {"others cut": sum(each.ended is not None for each in held if each.server != BAD)}


def shutting_down(scene: Scene) -> Result:
    """/readyz of one says that it shuts down; /healthz stays fine."""
    return _unready(scene, "[+]ping ok\n[-]shutdown failed: reason withheld\nreadyz check failed\n", 20, ("readyz",))


def etcd_failed(scene: Scene) -> Result:
    """/readyz and /healthz of one say that etcd has failed."""
    return _unready(scene, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n", 38,
                    ("readyz", "healthz"))  # fmt: skip


def _unready(scene: Scene, body: str, seconds: float, paths: tuple[str, ...]) -> Result:
    held = scene.clients.hold(HELD, busy=HELD // 2)
    hit = [each for each in held if each.server == BAD]
    for path in paths:
        scene.masters[BAD].set(**{path: [500, body]})
    since = time.monotonic()
    tries = scene.clients.arrive(scene.rate, seconds).result()
    last = max((each.start - since for each in tries if each.server == BAD), default=0.0)
    ended = cuts(hit, since)
    facts: dict[str, Fact] = {
        "last new at it after s": round(last, 1),
        "held at it": len(hit),
        "cut": len(ended),
        "first cut after s": round(ended[0], 1) if ended else None,
        "last cut after s": round(ended[-1], 1) if ended else None,
        **_others(held),
        "back at it": sum(each.back.server == BAD for each in hit if each.back),
    }
    return Result(tries, facts)


def half_close(scene: Scene) -> Result:
    """Send EOF as a client whom the server answers only then."""
    whole = 0
    for _ in range(20):
        with connect(scene.port, ns=scene.net.node) as sock:
            sock.sendall(b"whole %d\n" % SIZE)
            sock.shutdown(socket.SHUT_WR)
            try:
                whole += receive_all(sock) == pattern(0, SIZE)
            except OSError:
                pass
    return Result([], {"of 20 answers whole": whole})


def reset_midstream(scene: Scene) -> Result:
    """Have the server reset in the middle of its answer."""
    seen = []
    for _ in range(20):
        with connect(scene.port, ns=scene.net.node) as sock:
            sock.sendall(b"broken %d\n" % SIZE)
            try:
                receive_all(sock)
                seen.append("EOF")
            except OSError as error:
                seen.append(type(error).__name__)
    return Result([], {"of 20, reset": seen.count("ConnectionResetError"), "clean EOF": seen.count("EOF")})
