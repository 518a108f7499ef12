"""docs/reference/: every key, command and metric, written anew from what lbproxy itself has.

    python packaging/reference.py

`make docs` runs it; tests/unit/test_reference.py holds what is committed against it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import facts

from lbproxy.cli import _parser
from lbproxy.status.metrics import render
from lbproxy.status.snapshot import Snapshot
from lbproxy.tasks import KINDS
from tests.unit.status.test_metrics import server, snapshot  # in which each family has a series

DIRECTORY: Final = Path(__file__).parents[1] / "docs/reference"
_MADE: Final = "<!-- Made by `make docs`. -->\n"


def keys() -> Iterator[str]:
    """Yield the lines of keys.md."""
    yield f"""# Configuration keys

{_MADE}
All of what may stand in `/etc/lbproxy/lbproxy.yaml`; a key that is not listed here is an error. The same with an
example of each is [config/lbproxy.yaml](../../config/lbproxy.yaml), and for editors
[config/lbproxy.schema.json](../../config/lbproxy.schema.json).

Durations are written as 250ms, 1s, 10m, 1h, or as a number of seconds. Addresses of IPv6 stand in brackets and quotes.
`NAME` is a name of yours; `[]` an entry of a list.
"""
    for proxies, below in groupby(facts.settings(), lambda key: key.name.startswith("proxies")):
        yield "## Of a proxy\n\nBelow `proxies: {NAME: ...}`.\n" if proxies else "\n## Of the whole process\n"
        yield _head("key", "what it is for", "what it may be")
        for key in below:
            yield _row(f"`{key.name.removeprefix('proxies.NAME.')}`", key.told, key.limits)


def commands() -> Iterator[str]:
    """Yield the lines of commands.md."""
    parser = _parser()
    yield f"""# Commands

{_MADE}
`lbproxy [OPTION]... COMMAND [ARGUMENT]...`; the same is in lbproxy(1), and `lbproxy help COMMAND` tells of one.
Exit status of each: {facts.statuses(parser)}

Root and the account of the service may run all of them; members of the group `lbproxy-status` may run `status`, `conns`
and `events`, and everybody what asks no daemon (`check`, `import`, `version`, `help`, `completion`, `demo`).

## Before or behind any command
"""
    yield from _table(facts.arguments(parser))
    for command in facts.commands(parser):
        yield f"\n## lbproxy {command.name}\n\n`lbproxy {command.name}{command.places}`\n\n{command.told}"
        if command.arguments:
            yield ""
            yield from _table(command.arguments)


def metrics() -> Iterator[str]:
    """Yield the lines of metrics.md."""
    yield f"""# Metrics

{_MADE}
What `/metrics` on `admin.listen` has. Counters count from the start of the process: they begin anew with a restart, an
upgrade and a crash. Of a label that tells what has happened the values are named that are there from the start; others
come when they happen. Names, types and labels are stable; changes are in [CHANGELOG.md](../../CHANGELOG.md). What
HAProxy and nginx call the same: [metric names](../metric-names.md).
"""
    yield _head("metric", "type", "labels", "what it says")
    for each in facts.metrics("".join(render(_quiet()))):
        labels = [f"{label}: {', '.join(values)}" if values else label for label, values in each.labels.items()]
        yield _row(f"`{each.name}`", each.kind, "; ".join(labels), each.told)


def _quiet() -> Snapshot:
    """Return a process in which nothing has happened: the series there are stand for all that can."""
    found = snapshot(replace(server(), connect_failures={}, checks={}, cuts={}))
    (proxy,) = found.proxies
    tasks = dict.fromkeys(KINDS, 0)
    return replace(found, proxies=(replace(proxy, rejected={}, closed={}),), handed={}, task_failures=tasks)


def _table(arguments: Iterator[facts.Argument] | list[facts.Argument]) -> Iterator[str]:
    yield _head("option", "")
    for each in arguments:
        yield _row(f"`{each.name}{f' {each.value}' if each.value else ''}`", each.told)


def _head(*titles: str) -> str:
    return f"{_row(*titles)}\n{'|---' * len(titles)}|"


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", r"\|").replace("<", "&lt;") for cell in cells) + " |"


PAGES: Final = {"keys.md": keys, "commands.md": commands, "metrics.md": metrics}


def text(page: str) -> str:
    """Return a page."""
    return "\n".join(PAGES[page]()) + "\n"


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True, parents=True)
    for name in PAGES:
        (DIRECTORY / name).write_text(text(name))
