"""A soak from its beginning to its verdict."""

from __future__ import annotations

import asyncio
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.soak import plan
from bench.soak.causes import Causes
from bench.soak.hostile import Hostile
from bench.soak.samples import Sampler
from bench.soak.servers import SoakServer
from bench.soak.streams import Streams
from bench.soak.targets import Replaced, Staying, Target
from bench.soak.verdict import Verdict, count, judge_levels, judge_streams
from bench.soak.visits import Visitors

SHARE: Final = 10**9
"""How many numbers there are for the streams of one target."""


@dataclass
class Result:
    """What came of it."""

    verdict: Verdict
    samples: dict[str, list[dict[str, Any]]]
    visits: dict[str, dict[str, int]]
    slowest: dict[str, float]
    load: list[float]
    acts: list[str] = field(default_factory=list)


class Soak:
    """All of it; `minutes` long, in `cycles`. `share` is how much load there is, `logs` where the logs are kept.

    Of a single cycle no thirds are compared.
    """

    def __init__(self, minutes: float, cycles: int, seed: int, share: float = 1.0, logs: Path | None = None) -> None:
        self.seconds = minutes * 60
        self._cycles, self._seed, self._share, self._logs = cycles, seed, share, logs
        self._servers = [SoakServer(name) for name in plan.SERVERS]
        self._errors: list[str] = []

    def run(self) -> Result:
        """Do it."""
        with ExitStack() as stack:
            for server in self._servers:
                stack.enter_context(server)
            self._targets: list[Target] = [
                stack.enter_context(Staying(self._servers, 1)),
                stack.enter_context(Replaced(self._servers, 1)),
            ]
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._all())
            return self._result()

    async def _all(self) -> None:
        loop = asyncio.get_running_loop()
        life = min(200.0, self.seconds / self._cycles)
        self._streams = [
            Streams(target.name, target.port, (n + 1) * SHARE, life, self._share)
            for n, target in enumerate(self._targets)
        ]
        self._visitors = [Visitors(target.name, target.port, 20 * self._share) for target in self._targets]
        hostile = [Hostile(target.port, target.admin, target.control, self._seed) for target in self._targets]
        self._sampler = Sampler(self._targets, 5.0 if self.seconds >= 600 else 1.0)
        for streams, enemies in zip(self._streams, hostile, strict=True):
            streams.begin()
            enemies.begin(self._share)
        visiting = [loop.create_task(visitors.run()) for visitors in self._visitors]
        await asyncio.sleep(min(5.0, life / 10))
        self._begun = time.time()
        sampling = loop.create_task(self._sampler.run())
        await asyncio.gather(*(self._acts(whom) for whom in (*plan.SERVERS, *plan.TARGETS)))
        sampling.cancel()
        for visitors in self._visitors:
            visitors.end()
        await asyncio.gather(*visiting)
        await asyncio.gather(*(streams.finish() for streams in self._streams), *(enemies.end() for enemies in hostile))
        await asyncio.sleep(1)  # the servers write their last

    async def _acts(self, whom: str) -> None:
        """Do what is for one of them, in each cycle, and wait for the end."""
        begin, length = time.monotonic(), self.seconds / self._cycles
        mine = [act for act in plan.cycle(self._seed) if whom in (plan.TARGETS if act.whom == "all" else (act.whom,))]
        for number in range(self._cycles):
            for act in mine:
                await asyncio.sleep(max(0.0, begin + (number + act.at) * length - time.monotonic()))
                await asyncio.to_thread(self._do, act.what, whom)
        await asyncio.sleep(max(0.0, begin + self.seconds - time.monotonic()))

    def _do(self, what: str, whom: str) -> None:
        since = time.time()
        try:
            for server in self._servers:
                if server.name == whom:
                    server.recover() if what == "well" else server.fail(what)
            for target in self._targets:
                if target.name == whom:
                    target.events.append((what, since, since + 60))
                    target.act(what)
                    target.events[-1] = (what, since, time.time())
        except Exception:  # the soak goes on, and says so in the end
            self._errors.append(f"{what} of {whom} has failed: {traceback.format_exc(limit=-3)}")

    def _causes(self, target: Target) -> Causes:
        log = target.access_log()
        if self._logs:
            (self._logs / f"soak-{target.name}.log").write_text(log)
        return Causes(log, target.events, {server.name: server.faults for server in self._servers})

    def _result(self) -> Result:
        verdict = Verdict(faults=list(self._errors))
        records = [record for server in self._servers for record in server.records()]
        causes = {target.name: self._causes(target) for target in self._targets}
        for streams, visitors in zip(self._streams, self._visitors, strict=True):
            judge_streams(verdict, streams.records, records, causes)
            minutes = round(self.seconds / 60)
            verdict.ended[streams.target] = causes[streams.target].reasons(self._begun, minutes)
            verdict.faults += [f"{streams.target}: no fault explains {line}" for line in causes[streams.target].odd()]
            for failed in visitors.failed:
                name = f"{streams.target} visits"
                count(verdict, name, name, failed, causes[streams.target].of(failed))
        for name, samples in self._sampler.samples.items():
            if failures := max(sample.get("task_failures", 0) for sample in samples):
                verdict.faults.append(f"{name}: {failures:g} task failures")
            if self._cycles > 1:
                judge_levels(verdict, name, samples)
        names = [target.name for target in self._targets]
        return Result(
            verdict, self._sampler.samples,
            dict(zip(names, (dict(v.counts) for v in self._visitors), strict=True)),
            dict(zip(names, (v.slowest for v in self._visitors), strict=True)),
            self._sampler.load,
            [f"{t.name}: {what} took {end - begin:.2f} s" for t in self._targets for what, begin, end in t.events],
        )  # fmt: skip
