"""Trials of all masters at once, or one after the other, and of what comes after."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bench.trials.arrivals import BAD
from bench.trials.clients import Clients
from bench.trials.results import Fact, Result, cuts, spread
from bench.trials.stage import Scene
from tests.support.netns import MASTERS

LONG = 30.0
"""Seconds of the long outage."""
A_TRY = 4.0
"""Seconds in which a client has tried all servers and been told that there are none: connect_deadline, and some."""
READY_AFTER, WELL_AFTER = 3.5, 9.0
"""Seconds after a partition, as seen of real API servers: /readyz says 200; requests that need etcd are answered."""


def _all(scene: Scene, **settings: object) -> None:
    with ThreadPoolExecutor(len(MASTERS)) as pool:
        list(pool.map(lambda master: master.set(**settings), scene.masters.values()))


def blip(scene: Scene) -> Result:
    """All three are gone for a second."""
    coming = scene.clients.arrive(scene.rate, 13)
    time.sleep(1)
    _all(scene, listening=False)
    time.sleep(1)
    _all(scene, listening=True)
    back = time.monotonic()
    tries = coming.result()
    failed = [each.start - back for each in tries if each.error]
    worked = [each.end - back for each in tries if each.start >= back and not each.error]
    late = [each for each in tries if each.start > back + 0.5]
    return Result(late, {
        "errors in all": len(failed),
        "first success after ms": round(1000 * min(worked), 0) if worked else None,
        "last failed began after ms": round(1000 * max(failed), 0) if failed else None,
    })  # fmt: skip


def _most_fds(scene: Scene) -> int:
    """Return how many descriptors it has at most in the time of a try: with each client they come and go."""
    end = time.monotonic() + A_TRY
    most = 0
    while time.monotonic() < end:
        most = max(most, scene.fds())
        time.sleep(0.1)
    return most


def outage(scene: Scene) -> Result:
    """Drop the packets of all three for long, while twenty clients keep trying."""
    for name in MASTERS:
        scene.net.kill(name, "unbridge")
    trying = scene.clients.persist(20, LONG)
    time.sleep(LONG / 3)
    early = _most_fds(scene), scene.resident()
    time.sleep(LONG / 3)
    late = _most_fds(scene), scene.resident()
    tries = trying.result()
    for name in MASTERS:
        scene.net.heal(name)
    back = time.monotonic()
    after = scene.clients.arrive(scene.rate, 3).result()
    worked = [each.end - back for each in after if not each.error]
    ends = [each.seconds for each in tries]
    return Result(after, {
        "tries during it": len(tries),
        "longest try s": round(max(ends), 2),
        "descriptors grown by": late[0] - early[0],
        "MiB grown by": round(late[1] - early[1], 1),
        "first success after ms": round(1000 * min(worked), 0) if worked else None,
    })  # fmt: skip


def restart(scene: Scene) -> Result:
    """Restart one while its clients go elsewhere, and see where the next fifteen go."""
    held = scene.clients.hold(30)
    scene.masters[BAD].set(listening=False)
    scene.wait_for(BAD, ["down"])
    time.sleep(3)
    scene.masters[BAD].set(listening=True)
    scene.wait_for(BAD, ["up"], 30)
    time.sleep(1)
    now_at = [each.back.server if each.back else each.server for each in held]
    fresh = scene.clients.hold(15)
    return Result([], {
        "held before": spread(now_at),
        "of 15 new, at it": sum(each.server == BAD for each in fresh),
        "at each": spread(each.server for each in fresh),
    })  # fmt: skip


def partition(scene: Scene) -> Result:
    """Have one come back from a partition: it says ready after 3.5 s, and what needs etcd hangs for 9 s."""
    scene.net.kill(BAD, "unbridge")
    scene.wait_for(BAD, ["down"])
    master = scene.masters[BAD]
    master.set(hang=True, readyz=[500, "[-]etcd failed: reason withheld"])
    time.sleep(3)
    scene.net.heal(BAD)
    coming = scene.clients.arrive(scene.rate, 30)
    time.sleep(READY_AFTER)
    master.set(readyz=[200, "ok"])
    time.sleep(WELL_AFTER - READY_AFTER)
    master.set(hang=False)
    tries = coming.result()
    scene.wait_for(BAD, ["up"], 30)
    return Result(tries, {"longest ms": round(1000 * max(each.seconds for each in tries), 0)})


def fresh_nodes(scene: Scene) -> Result:
    """Make the first connection of twelve proxies that have just started, each with a node id of its own."""
    firsts = []
    for number in range(12):
        proxy = scene.another(f"node-{number}")
        with Clients(proxy.port, scene.certs.client_context(), scene.net.node) as clients:
            firsts.append(clients.hold(1)[0].server)
        proxy.kill()
    most = max(firsts.count(name) for name in MASTERS)
    return Result([], {"first servers": spread(firsts), "most at one": most})


def rolling(scene: Scene) -> Result:
    """Each is restarted in turn, five seconds apart, under new connections and fifty watches."""
    watches = scene.clients.hold(50, busy=10)
    coming = scene.clients.arrive(2 * scene.rate, 40)
    began: dict[str, float] = {}
    for name, master in scene.masters.items():
        time.sleep(1)
        began[name] = time.monotonic()
        master.set(listening=False)
        time.sleep(4)
        master.set(listening=True)
        scene.wait_for(name, ["up"], 30)
    tries = coming.result()
    stray = [
        each
        for each in watches
        if each.ended is not None and not began[each.server] <= each.ended < began[each.server] + 2
    ]
    facts: dict[str, Fact] = {
        "watches cut": len(cuts(watches, 0.0)),
        "cut though their master ran": len(stray),
        "tries to come back that failed": sum(each.refused for each in watches),
    }
    return Result(tries, facts)
