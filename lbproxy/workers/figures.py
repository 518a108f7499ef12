"""All that is shown of several workers, as of one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lbproxy.handover.parcel import Parcel
from lbproxy.process.usage import together
from lbproxy.status.snapshot import ProxyView, Snapshot, WorkerView
from lbproxy.workers.totals import add, departed


class Figures:
    """Adds up, and remembers the figures of those that are no more."""

    def __init__(self) -> None:
        self._last: dict[int, Snapshot] = {}
        self._departed: list[ProxyView] = []
        self._failures: Counter[str] = Counter()
        self._cpu_seconds = 0.0

    def shown(self, own: Snapshot, workers: Sequence[tuple[int, Snapshot]]) -> Snapshot:
        """Return `own`, the leader's, with the figures of the `workers` that have answered, by row, and of the dead."""
        self._last |= dict(workers)
        views = [view for _, worker in workers for view in worker.proxies]
        failures = Counter(own.task_failures) + self._failures
        for _, worker in workers:
            failures.update(worker.task_failures)
        usage = together([each.usage for each in (own, *dict(workers).values()) if each.usage])
        return replace(
            own,
            proxies=tuple(add(each, _named(each.name, [*views, *self._departed])) for each in own.proxies),
            task_failures=dict.fromkeys(own.task_failures, 0) | dict(failures),
            log_lines_dropped=own.log_lines_dropped + sum(worker.log_lines_dropped for _, worker in workers),
            usage=replace(usage, cpu_seconds=usage.cpu_seconds + self._cpu_seconds),
            loop_lag_seconds=max((worker.loop_lag_seconds for _, worker in workers), default=0.0),
            kept=sum(worker.kept for _, worker in workers),
            workers=tuple(_worker(row, worker) for row, worker in workers),
        )

    def lost(self, row: int, taken: Sequence[Parcel]) -> None:
        """Take in that a worker is no more, and which of its connections another one has taken."""
        last = self._last.pop(row, None)
        if last is None:
            return
        for view in last.proxies:
            gone = departed(view, taken)
            same = _named(view.name, self._departed)
            self._departed = [each for each in self._departed if each.name != view.name]
            self._departed.append(add(gone, same))
        self._failures.update(last.task_failures)
        self._cpu_seconds += last.usage.cpu_seconds if last.usage else 0.0


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
