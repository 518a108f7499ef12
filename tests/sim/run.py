"""`python -m tests.sim`: seeds by the thousand, one of them with its story, and the shortest story that still fails."""

from __future__ import annotations

import argparse
import gc
import logging
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Final

from tests.sim.install import Ear, install

EAR: Final = Ear()


def prepare() -> None:
    """Make this process one that simulates."""
    install()
    root = logging.getLogger()
    root.handlers[:] = [EAR]
    root.setLevel(logging.INFO)
    vars(logging).update(_srcfile=None, logThreads=False, logProcesses=False)  # a record need not say where it is from
    import tests.sim.world  # noqa: F401 (not before `install`)

    gc.disable()  # a world is thrown away whole, see `told`
    gc.freeze()


def told(seed: int) -> tuple[int, list[str], float, Counter[str], int]:
    """Run a seed; returns it, what was wrong, the simulated seconds, the faults by kind, and how many clients came."""
    from tests.sim.story import story_of
    from tests.sim.world import World

    world = World(story_of(seed))
    EAR.told = world.told
    begun = world.kernel.now
    if seed % 16 == 0:
        gc.collect()
    try:
        broken = world.run()
    except Exception as error:
        broken = [*world.broken, f"the world ended with {error!r}"]
    return seed, broken, world.kernel.now - begun, world.faults, len(world.clients)


def shortened(seed: int) -> list[str]:
    """Return the story of a seed that fails, without what it fails without, and what is wrong then."""
    from tests.sim.story import Story, story_of
    from tests.sim.world import World

    def fails(story: Story) -> list[str]:
        world = World(story)
        EAR.told = world.told
        try:
            return world.run()
        except Exception as error:
            return [f"the world ended with {error!r}"]

    story = story_of(seed)
    first = _kind(fails(story))

    def same(story: Story) -> bool:
        return first in map(_kind, ([each] for each in fails(story)))

    for at in range(len(story.events) - 1, -1, -1):
        without = replace(story, events=story.events[:at] + story.events[at + 1 :])
        if same(without):
            story = without
    for size in (16, 4, 1):
        at = 0
        while at < len(story.clients):
            without = replace(story, clients=story.clients[:at] + story.clients[at + size :])
            if same(without):
                story = without
            else:
                at += size
    return [*story.lines(), "what is wrong:", *fails(story)]


def _kind(broken: list[str]) -> str:
    """Return what is wrong first, without numbers and times."""
    return re.sub(r"[0-9.]+", "", broken[0]).strip() if broken else ""


def main() -> int:
    """Run seeds, or one; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one, with its story")
    parser.add_argument("--stop", action="store_true", help="at the first seed that fails")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        prepare()
        _, broken, *_ = told(arguments.seed)
        print("\n".join(shortened(arguments.seed) if broken else ["nothing is wrong"]))
        return int(bool(broken))
    began, simulated, clients, run = time.monotonic(), 0.0, 0, 0
    faults: Counter[str] = Counter()
    failed: list[int] = []
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    with ProcessPoolExecutor(arguments.jobs, initializer=prepare) as pool:
        for seed, broken, seconds, kinds, came in pool.map(told, seeds, chunksize=20):
            run += 1
            simulated += seconds
            clients += came
            faults += kinds
            if broken:
                failed.append(seed)
                print(f"seed {seed}: {broken[0]}{f' and {len(broken) - 1} more' if broken[1:] else ''}", flush=True)
                if arguments.stop:
                    pool.shutdown(cancel_futures=True)
                    break
    took = time.monotonic() - began
    print(
        f"{run} seeds in {took:.0f} s ({run / took:.0f} a second), {simulated / 3600:.0f} simulated "
        f"hours, {clients} clients; faults: {', '.join(f'{kind} {count}' for kind, count in faults.most_common())}"
    )
    if failed:
        print(f"{len(failed)} seeds failed; again, with the shortened story: python -m tests.sim --seed {failed[0]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
