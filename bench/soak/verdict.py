"""What a soak has shown: wrong bytes, cuts by cause, refused connects, and whether memory and descriptors are flat."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.soak.causes import KILLED, Causes

FLAT: Final = 0.02
"""The most that the last third may have over the second."""
LEVELS: Final = ("rss", "anonymous", "fds", "pipes")
"""What must be flat. PSS is shown and not judged: it changes with who else on the machine has the same libraries."""
_FEW: Final = 2.0
"""What may come on top of it: one pipe is more than two per cent of three."""


@dataclass
class Verdict:
    """`faults` are what must not be; empty is well."""

    streams: Counter[str] = field(default_factory=Counter)
    causes: dict[str, Counter[str]] = field(default_factory=dict)
    """Of connections that were cut, by the target and whether it was a stream or a visit."""
    ended: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """How many connections of each target have ended by each reason, those of hostile clients too, minute by minute."""
    faults: list[str] = field(default_factory=list)
    levels: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Medians of the three thirds, by target and level."""


def judge_streams(
    verdict: Verdict, streams: Iterable[dict[str, Any]], records: Sequence[dict[str, Any]], causes: Mapping[str, Causes]
) -> None:
    """Put what became of `streams` into the verdict; `records` is what the servers say of each."""
    opened = {record["number"]: record["server"] for record in records}
    ends = {record["number"]: record for record in records if record["what"] == "end"}
    for stream in streams:
        end = ends.get(stream["number"])
        name = f"{stream['target']}: {stream['kind']} {stream['number']}"
        cause = causes[stream["target"]].of(stream, opened.get(stream["number"], ""))
        if wrong := _wrong(stream, end, killed=cause[0] == KILLED):
            verdict.streams["wrong"] += 1
            verdict.faults.append(f"{name}: {wrong}")
        elif stream["ended"] == "eof" and stream["finished"] and end and end["finished"] and not stream["stuck"]:
            verdict.streams["intact"] += 1
        else:
            verdict.streams["cut"] += 1
            count(verdict, f"{stream['target']} streams", f"{name}, of {end}", stream, cause)


def count(verdict: Verdict, kind: str, name: str, connection: dict[str, Any], why: tuple[str, bool]) -> None:
    """Count a connection that was cut by its cause, and call it a fault if that is not allowed."""
    cause, allowed = why
    verdict.causes.setdefault(kind, Counter())[cause] += 1
    if not allowed:
        verdict.faults.append(f"{name}: cut, {cause}: {connection}")


def _wrong(stream: dict[str, Any], end: dict[str, Any] | None, killed: bool) -> str:
    """Return what is wrong with the bytes of a stream, or with an end that says that they were all.

    For a process that was `killed` the kernel closes what nobody else holds yet; its FIN means nothing.
    """
    if found := stream["wrong"] or (end or {}).get("wrong"):
        return str(found)
    if end is None or killed:
        return ""
    if stream["ended"] == "eof" and not end["aborted"]:
        if not end["finished"]:
            return f"a FIN that the server has not sent: {stream}, {end}"
        if stream["received"] != end["sent"]:
            return f"{end['sent']} sent by the server, {stream['received']} received: {stream}, {end}"
    if end["ended"] == "eof" and stream["finished"] and not stream["stuck"] and stream["sent"] != end["received"]:
        return f"{stream['sent']} sent by the client, {end['received']} received: {stream}, {end}"
    return ""


def thirds(samples: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Return them in three parts of equal time."""
    first, last = samples[0]["at"], samples[-1]["at"]
    third = (last - first) / 3
    return [[s for s in samples if first + n * third <= s["at"] < first + (n + 1) * third] for n in range(3)]


def judge_levels(verdict: Verdict, target: str, samples: Sequence[dict[str, Any]]) -> None:
    """Compare the thirds of a target's samples, by the median of each."""
    parts = thirds(samples)
    found = verdict.levels[target] = {
        level: [statistics.median(sample[level] for sample in part) for part in parts] for level in (*LEVELS, "pss")
    }
    for level in LEVELS:
        _, second, last = found[level]
        if last > second * (1 + FLAT) and last > second + _FEW:
            verdict.faults.append(
                f"{target}: {level} is not flat: {second:g}, then {last:g} ({last / second - 1:+.1%})"
            )
