"""What the samples say: medians, spread and ratios; as a table, as JSON values and as a picture."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Summary = dict[str, dict[str, dict[str, Any]]]
"""By workload and proxy: per metric its median, its spread, all its samples, and ratios of medians over rounds."""

COLUMNS = (  # metric, heading, format
    ("rate", "rate/s", ",.0f"),
    ("p50_us", "p50 us", ".1f"),
    ("p99_us", "p99 us", ".0f"),
    ("p999_us", "p99.9 us", ".0f"),
    ("user_us", "user us", ".2f"),
    ("sys_us", "sys us", ".2f"),
    ("machine_us", "machine us", ".2f"),
    ("busy", "busy", ".2f"),
    ("others", "others", ".2f"),
    ("bulk_mb", "bulk MB/s", ",.0f"),
    ("pss_rest_mib", "rest MiB", ".1f"),
    ("pss_per_conn_kib", "KiB/conn", ".2f"),
)
_BULK = (("rate", "to nginx", ">=", 1.8), ("cpu_us", "to nginx", "<=", 0.4))
_PING = (("rate", "to nginx", ">=", 0.95), ("cpu_us", "to nginx", "<=", 1.2))
GOALS: dict[str, tuple[tuple[str, str, str, float], ...]] = {  # workload: metric, what of it, relation, bound
    **dict.fromkeys(("up-1", "up-16", "down-1", "down-16"), _BULK),
    **dict.fromkeys(("ping-64", "ping-64-4k"), _PING),
    "ping-1": (*_PING, ("p50_us", "over nginx", "<=", 5.0)),
    "churn-32": (("rate", "to nginx", ">=", 0.95), ("cpu_us", "to nginx", "<=", 1.25)),
    "h2-tls": (("rate", "to nginx", ">=", 1.0),),
    "mix-60-4": (("p99_us", "to nginx", "<=", 1.0),),
    "held-2000": (("pss_per_conn_kib", "value", "<=", 4.0), ("pss_rest_mib", "value", "<=", 32.0)),
    "held-most": (("pss_per_conn_kib", "value", "<=", 4.0),),
}
"""What lbproxy asks of itself: the value, its ratio to nginx's in the same round, or what it is over nginx's."""


def summarise(results: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> Summary:
    """Reduce samples to medians. A ratio is the median of the ratios within each round, so that noise cancels."""
    return {
        workload: {name: _summary(by_proxy, name) for name in by_proxy if any(by_proxy[name])}
        for workload, by_proxy in results.items()
    }


def _summary(by_proxy: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> dict[str, Any]:
    samples = by_proxy[name]
    summary: dict[str, Any] = {"failed": sum(not s for s in samples)}
    for metric in dict.fromkeys(key for s in samples for key in s):
        values = [s[metric] for s in samples if metric in s]
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / 2 / middle if middle else 0.0
        entry = {"median": _round(middle), "spread": _round(spread), "samples": [_round(v) for v in values]}
        for other in ("nginx", "direct"):
            if other == name:
                continue
            rounds = list(zip(samples, by_proxy.get(other, ()), strict=False))
            if ratios := [m[metric] / t[metric] for m, t in rounds if metric in m and t.get(metric)]:
                entry[f"to_{other}"] = _round(statistics.median(ratios))
            if differences := [m[metric] - t[metric] for m, t in rounds if metric in m and metric in t]:
                entry[f"over_{other}"] = _round(statistics.median(differences))
        summary[metric] = entry
    return summary


def _round(value: float) -> float:
    return float(f"{value:.5g}")


def text(about: Mapping[str, Any], summary: Summary, units: Mapping[str, str]) -> str:
    """Return the tables for the terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"{about['command']}   ({about['date']})", f"{versions}; Linux {about['kernel']}, {about['cpu']}"]
    lines.append(f"Python {about['python']}; network: {about['network']}")
    lines.append(f"medians of {about['rounds']} rounds of {about['seconds']:g} s; +- is half the range of the rates")
    for workload, by_proxy in summary.items():
        shown = [c for c in COLUMNS if any(c[0] in values for values in by_proxy.values())]
        head = f"{'':9}" + "".join(f"{title:>11}" + ("   +-" if metric == "rate" else "") for metric, title, _ in shown)
        lines += ["", f"{workload} (per {units[workload]})", head + f"{'x nginx':>9}{'x direct':>9}{'cpu x':>7}"]
        lines += [_row(name, values, shown) for name, values in by_proxy.items()]
    if goals := _goals(summary):
        lines += ["", "lbproxy against its goals", *goals]
    return "\n".join(lines)


def _row(name: str, values: Mapping[str, Any], shown: Sequence[tuple[str, str, str]]) -> str:
    row = f"{name:9}"
    for metric, _, form in shown:
        row += f"{values[metric]['median']:>11{form}}" if metric in values else f"{'':11}"
        if metric == "rate":
            row += f"{values[metric]['spread']:>5.0%}"
    for metric, other, width in (("rate", "nginx", 9), ("rate", "direct", 9), ("cpu_us", "nginx", 7)):
        ratio = values.get(metric, {}).get(f"to_{other}")
        row += f"{ratio:>{width}.2f}" if ratio is not None else " " * width
    for count, what in ((sum(values["errors"]["samples"]), "errors"), (values["failed"], "failed")):
        row += f"  {count:.0f} {what}" if count else ""
    return row


def _goals(summary: Summary) -> list[str]:
    lines = []
    for workload, goals in GOALS.items():
        values = summary.get(workload, {}).get("lbproxy", {})
        for metric, kind, relation, bound in goals:
            got = values.get(metric, {}).get("median" if kind == "value" else kind.replace(" ", "_"))
            if got is None:
                continue
            met = got >= bound if relation == ">=" else got <= bound
            what = metric if kind == "value" else f"{metric} {kind}"
            lines.append(f"{workload:11} {what:20} {got:8.2f} {relation} {bound:<5g} {'met' if met else 'SHORT'}")
    return lines


def as_json(about: Mapping[str, Any], summary: Summary) -> str:
    """Return all of it as JSON, a metric a line."""
    lines = ['{"about": ' + json.dumps(about, indent=1) + ",", ' "workloads": {']
    for workload, by_proxy in summary.items():
        lines.append(f'  "{workload}": {{')
        for name, values in by_proxy.items():
            metrics = ",\n".join(f"    {json.dumps(metric)}: {json.dumps(value)}" for metric, value in values.items())
            lines.append(f'   "{name}": {{\n{metrics}\n   }},')
        lines[-1] = lines[-1].rstrip(",")
        lines.append("  },")
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join([*lines, " }}"]) + "\n"


def picture(about: Mapping[str, Any], summary: Summary, path: Path) -> bool:
    """Draw the ratios to nginx into `path`; False when there is no matplotlib or nothing to draw."""
    try:
        figures: Any = importlib.import_module("matplotlib.figure")  # an extra: neither mypy nor we count on it
    except ImportError:
        return False
    names = [n for n in ("haproxy", "envoy", "lbproxy") if any(n in by_proxy for by_proxy in summary.values())]
    panels = (("rate", "rate (more is better)"), ("cpu_us", "CPU of the proxy (less is better)"))
    if not names or not any("nginx" in by_proxy for by_proxy in summary.values()):
        return False
    figure = figures.Figure(figsize=(11, 5.5), layout="constrained")
    colours = {"haproxy": "#9aa5b1", "envoy": "#c9b18f", "lbproxy": "#2f6fb0"}
    for place, (metric, title) in enumerate(panels):
        axes = figure.add_subplot(1, 2, place + 1)
        rows = [w for w in summary if any("to_nginx" in v.get(metric, {}) for v in summary[w].values())]
        rows = [w for w in rows if not w.startswith("held")]
        for i, name in enumerate(names):
            ratios = [summary[w].get(name, {}).get(metric, {}).get("to_nginx", 0) for w in rows]
            at = [row + (i - (len(names) - 1) / 2) * 0.8 / len(names) for row in range(len(rows))]
            bars = axes.barh(at, ratios, 0.8 / len(names), label=name, color=colours[name])
            axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set_title(f"{title}, nginx = 1", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].legend(fontsize=8)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    figure.suptitle(f"{versions}; one worker each; Linux {about['kernel']}; {about['date']}", fontsize=9)
    figure.savefig(path, dpi=110)
    return True


class Progress:
    """Says on stderr how far the bench is: a line that rewrites itself on a terminal, a line a minute elsewhere."""

    def __init__(self, steps: int, limit: float) -> None:
        self._steps, self._step, self._start, self._said = steps, 0, time.monotonic(), 0.0
        self._limit = limit
        self._terminal = sys.stderr.isatty()

    def _left(self) -> float:
        done = max(self._step, 1)
        return (time.monotonic() - self._start) / done * (self._steps - done)

    def spare(self) -> float:
        """Return how many seconds the limit leaves when all goes on as so far."""
        return self._limit - (time.monotonic() - self._start) - self._left()

    def step(self, what: str) -> None:
        """One more measurement begins."""
        now = time.monotonic()
        line = f"[{self._step}/{self._steps}] {what}" + (f", about {self._left():.0f} s left" if self._step > 5 else "")
        self._step += 1
        if self._terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif now - self._said > 60 or self._step == 1:
            self._said = now
            print(line, file=sys.stderr, flush=True)

    def note(self, what: str) -> None:
        """Something went wrong that the reader should see."""
        print(("\r\x1b[K" if self._terminal else "") + what, file=sys.stderr, flush=True)

    def done(self) -> None:
        """All measurements are made."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
