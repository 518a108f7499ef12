"""The picture of a soak."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

COLOURS: Final = {"staying": "#2f6fb0", "replaced": "#c77d2e"}
_PANELS: Final = (
    ("rss", "resident memory, MiB", 1 / 1024), ("anonymous", "of it anonymous, MiB", 1 / 1024),
    ("pss", "proportional share, MiB", 1 / 1024), ("fds", "descriptors", 1.0), ("pipes", "descriptors of pipes", 1.0),
    ("threads", "threads", 1.0), ("lag", "loop lag, ms", 1000.0), ("connections", "connections open", 1.0),
)  # fmt: skip


def picture(
    about: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]],
    ended: Mapping[str, Mapping[str, Sequence[int]]], path: Path,
) -> bool:  # fmt: skip
    """Draw what was sampled, over minutes, connects a second and ends by their reasons; False without matplotlib."""
    try:
        figures: Any = importlib.import_module("matplotlib.figure")  # an extra: neither mypy nor we count on it
    except ImportError:
        return False
    figure = figures.Figure(figsize=(12, 19), layout="constrained")
    begin = min(rows[0]["at"] for rows in samples.values())
    for place, (key, title, factor) in enumerate(_PANELS):
        axes = figure.add_subplot(6, 2, place + 1)
        for name, rows in samples.items():
            points = [((row["at"] - begin) / 60, row[key] * factor) for row in rows if key in row and "lag" in row]
            axes.plot(*zip(*points, strict=True), label=name, color=COLOURS[name], linewidth=0.7)
        _dress(axes, title, about)
    for place, key, title in (
        (9, "accepted", "connects a second"),
        (10, "connect_failures", "that failed, to servers"),
    ):
        axes = figure.add_subplot(6, 2, place)
        for name, rows in samples.items():
            axes.plot(*zip(*_rates(rows, key, begin), strict=True), label=name, color=COLOURS[name], linewidth=0.7)
        _dress(axes, title, about)
    for place, name in ((11, "staying"), (12, "replaced")):
        axes = figure.add_subplot(6, 2, place)
        for reason, counts in ended.get(name, {}).items():
            axes.plot([minute + 0.5 for minute in range(len(counts))], counts, label=reason, linewidth=0.9)
        axes.set_yscale("symlog")
        axes.legend(fontsize=6, ncols=3)
        _dress(axes, f"ends a minute by reason, {name}", about)
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(
        f"lbproxy, a soak of {about['minutes']:g} minutes in {about['cycles']} cycles, compiled; "
        f"Linux {about['kernel']}; {about['date']}", fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=90)
    return True


def _rates(rows: Sequence[Mapping[str, Any]], key: str, begin: float) -> list[tuple[float, float]]:
    """Return the increase a second of a counter; from one process to the next it begins anew, which is left out."""
    found = [row for row in rows if key in row and row["processes"]]
    return [
        ((now["at"] - begin) / 60, (now[key] - before[key]) / (now["at"] - before["at"]))
        for before, now in itertools.pairwise(found)
        if now[key] >= before[key] and min(p["age"] for p in now["processes"]) > now["at"] - before["at"]
    ] or [(0.0, 0.0)]


def _dress(axes: Any, title: str, about: Mapping[str, Any]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_ylim(bottom=0)
    for third in (1, 2):
        axes.axvline(about["minutes"] * third / 3, color="#999999", linewidth=0.6, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
