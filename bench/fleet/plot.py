"""Lines over time, as SVG: nothing is needed to draw them, and a change of one shows in a diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Final, NamedTuple

COLOURS: Final = {"nginx": "#56b4e9", "haproxy": "#e69f00", "k3s": "#999999", "lbproxy": "#0072b2"}
"""Apart from each other also for who tells few colours apart (Okabe and Ito)."""
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 760, 220, 64, 34, 44


class Panel(NamedTuple):
    """One picture: lines by name, each a list of (x, y)."""

    title: str
    unit: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False
    low: float = 0.0


def svg(panels: Sequence[Panel]) -> str:
    """Return the panels, one below the other."""
    height = len(panels) * (_HEIGHT + _TOP + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + _LEFT + 90} {height}" font-size="12">',
        "<style>text { font-family: sans-serif }</style>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * (_HEIGHT + _TOP + _GAP) + _TOP)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: float) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    right = max(x for x, _ in points)
    high = max(y for _, y in points) * 1.05

    def across(x: float) -> float:
        least = min(x for x, _ in points)
        share = log10(x / least) / log10(right / least) if panel.logarithmic else x / right
        return _LEFT + share * _WIDTH

    def up(y: float) -> float:
        if panel.logarithmic:
            return top + _HEIGHT * (1 - log10(max(y, 1)) / log10(high))
        return top + _HEIGHT * (1 - (y - panel.low) / (high - panel.low))

    parts = [f'<text x="{_LEFT}" y="{top - 12}" font-weight="bold">{panel.title}</text>']
    for y in _marks(panel.low, high, panel.logarithmic):
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:,g}</text>')
    below = sorted({x for x, _ in points}) if panel.logarithmic else _marks(0, right, logarithmic=False)
    parts += [f'<text x="{across(x):.1f}" y="{top + _HEIGHT + 16}" text-anchor="middle">{x:,g}</text>' for x in below]
    parts.append(f'<text x="{_LEFT + _WIDTH}" y="{top + _HEIGHT + 31}" text-anchor="end">{panel.unit}</text>')
    taken: list[float] = []
    for name, line in panel.lines.items():
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
        width = 2.5 if name == "lbproxy" else 1.5
        colour = COLOURS[name]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        label = up(line[-1][1]) + 4
        while any(abs(label - other) < 13 for other in taken):
            label -= 13
        taken.append(label)
        parts.append(f'<text x="{_LEFT + _WIDTH + 6}" y="{label:.1f}" fill="{colour}">{name}</text>')
    return parts


def _marks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**n for n in range(int(log10(high)) + 1)]
    step = 10 ** int(log10(high - low) - 0.3)
    step *= next(times for times in (1, 2, 5, 10, 20) if (high - low) / (step * times) <= 6)
    return [low + n * step for n in range(int((high - low) / step) + 1)]
