"""All that is shown of several workers, as of one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from lbproxy.handover.parcel import Parcel
from lbproxy.process.usage import together
from lbproxy.status.snapshot import ProxyView, Snapshot, WorkerView
from lbproxy.workers.totals import Moved, add, departed, moved


class Figures:
    """Adds up, and remembers the figures of those that are no more."""

    def __init__(self) -> None:
        self._last: dict[int, Snapshot] = {}
        self._taken: dict[int, Moved] = {}
        """By row, of dead ones in whose place nobody has told any figures yet: what the next one will count too."""
        self._departed: list[ProxyView] = []
        self._failures: Counter[str] = Counter()
        self._cpu_seconds = 0.0
        self._lines_dropped = 0

    def shown(self, own: Snapshot, workers: Iterable[tuple[int, Snapshot]]) -> Snapshot:
        """Return `own`, the leader's, with the figures of the workers, by row, and of the dead.

        `workers` are those that have answered; of one that has not, what it said last counts: it has it all still.
        """
        for row, worker in workers:
            self._bury(row)
            self._last[row] = worker
        living = {row: self._last[row] for row in sorted(self._last.keys() - self._taken.keys())}
        known = [*living.values(), *[_without_gauges(self._last[row]) for row in self._taken]]
        views = [*[view for worker in known for view in worker.proxies], *self._departed]
        failures = Counter(own.task_failures) + self._failures
        for worker in known:
            failures.update(worker.task_failures)
        usage = together([each.usage for each in (own, *known) if each.usage])
        return replace(
            own,
            proxies=tuple(add(each, _named(each.name, views)) for each in own.proxies),
            task_failures=dict.fromkeys(own.task_failures, 0) | dict(failures),
            log_lines_dropped=sum(each.log_lines_dropped for each in (own, *known)) + self._lines_dropped,
            usage=replace(usage, cpu_seconds=usage.cpu_seconds + self._cpu_seconds),
            loop_lag_seconds=max((worker.loop_lag_seconds for worker in known), default=0.0),
            kept=sum(worker.kept for worker in known),
            workers=tuple(_worker(row, worker) for row, worker in living.items()),
        )

    def lost(self, row: int, taken: Iterable[Parcel]) -> None:
        """Take in that a worker is no more, and which of its connections another one takes."""
        if row in self._last:
            self._taken[row] = moved(taken)

    def _bury(self, row: int) -> None:
        """Count what a dead one has, but for what is told from now on by the one in its place."""
        taken = self._taken.pop(row, None)
        if taken is None:
            return
        last = self._last.pop(row)
        for view in last.proxies:
            same = _named(view.name, self._departed)
            self._departed = [each for each in self._departed if each.name != view.name]
            self._departed.append(add(departed(view, taken), same))
        self._failures.update(last.task_failures)
        self._cpu_seconds += last.usage.cpu_seconds if last.usage else 0.0
        self._lines_dropped += last.log_lines_dropped


def _without_gauges(dead: Snapshot) -> Snapshot:
    usage = dead.usage and replace(dead.usage, virtual_bytes=0, resident_bytes=0, open_fds=0, max_fds=0)
    proxies = tuple(departed(view, Counter()) for view in dead.proxies)
    return replace(dead, proxies=proxies, usage=usage, kept=0, loop_lag_seconds=0.0)


def _named(name: str, views: Iterable[ProxyView]) -> list[ProxyView]:
    return [view for view in views if view.name == name]


def _worker(row: int, snapshot: Snapshot) -> WorkerView:
    usage = snapshot.usage
    return WorkerView(
        number=row + 1,
        pid=snapshot.pid,
        uptime_seconds=snapshot.uptime_seconds,
        connections=sum(view.connections for view in snapshot.proxies),
        connections_total=sum(view.connections_total for view in snapshot.proxies),
        cpu_seconds=usage.cpu_seconds if usage else 0.0,
        resident_bytes=usage.resident_bytes if usage else 0,
    )
