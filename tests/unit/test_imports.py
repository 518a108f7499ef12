"""Who may import whom, as a table: the walls of the house."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "lbproxy"

# A row is a module or a package without the leading `lbproxy.`; the longest row that fits a module counts.
# It lists what may be imported: a name stands for itself and everything in it, and a package may always import
# itself. `lbproxy` itself (`__version__`) and `record` are free to all. The rows stand in the order of the direction:
# each looks up only.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "form": set(),
    "record": set(),
    "tasks": set(),
    "threads": set(),
    "warnonce": set(),
    # what was asked
    "config.model": set(),
    "config": {"errors"},
    # the types of sockets and their addresses
    "net.contract": set(),
    # who gets it
    "balance": {"net.contract", "config.model"},
    # what it shows of itself; a snapshot is made by those below
    "status.snapshot": {"balance.histogram", "balance.state"},
    # the kernel's side, and how bytes move: know file descriptors, not servers
    "net": {"config.model", "errors"},
    "relay": {"net"},
    "status": {"balance.histogram", "balance.state", "config.model", "errors", "form", "tasks"},
    # one proxy at work
    "proxy": {"relay", "net", "balance", "status.snapshot", "config.model"},
    # is a server well
    "checks": {
        "proxy.backend", "net.closing", "net.contract", "net.reasons", "net.sockets", "balance", "config.model",
        "errors", "tasks", "threads", "warnonce",
    },
    # who else there is
    "sources": {
        "checks.answer", "checks.resolve", "checks.stream", "balance.group", "balance.server", "net.sockets",
        "config", "errors", "threads",
    },
    # live connections to a successor
    "handover": {"proxy", "relay", "net", "balance.group", "balance.server", "config.model", "errors", "warnonce"},
    # a data plane in one process
    "process.events": {"status"},
    "process.output": set(),
    "process.log": {"process.events", "process.output", "config.model", "status"},
    "process.identity": {"config.model"},
    "process.usage": {"status.snapshot"},
    "process.absent": {"net", "config.model", "errors"},
    "process.app": {
        "process.absent", "process.identity", "process.log", "process.usage", "handover", "checks", "proxy", "net",
        "status", "balance", "config", "errors", "form", "tasks",
    },
    # the same in several
    "workers": {
        "process.absent", "process.app", "process.identity", "process.log", "process.usage", "handover", "checks",
        "proxy", "net", "status.snapshot", "balance", "config", "errors", "form", "tasks", "threads",
    },
    # the process around it
    "process": {
        "workers", "handover", "sources", "checks", "proxy", "relay", "net", "status", "balance", "config", "errors",
        "form", "tasks", "threads", "warnonce",
    },
    # the command line
    "demo": {"status", "errors", "tasks"},
    "importer": {"config", "errors"},
    "check": {"checks.answer", "sources.kubeconfig", "status.control", "config", "errors"},
    "arguments": {"config.model", "config.scalars"},
    "whereabouts": {"config", "errors"},
    "completion": {"arguments", "errors", "status.commands", "status.onlookers", "whereabouts"},
    "look": {"errors", "status", "whereabouts"},
    "change": {"arguments", "status", "whereabouts"},
    "cli": {
        "arguments", "check", "look", "change", "completion", "process.start", "demo", "importer", "config", "errors",
        "form",
    },
    "__main__": {"cli"},
}  # fmt: skip

THIRD_PARTY: dict[str, set[str]] = {
    "yaml": {"config.nodes"},
    "prometheus_client": {"status.exposition"},
    "watchfiles": {"process.watch"},
    "crossplane": {"importer.nginx.file"},
    "h11": {"status.http", "checks.probe", "sources.api", "sources.kubernetes"},
    "uvloop": {"process.start", "workers.worker", "net.syscalls"},
}

PURE = ("warnonce", "balance", "checks.answer", "config.model", "config.diff", "relay.duplex", "net.timers",
        "proxy.clienthello", "proxy.phases", "proxy.proxy_protocol", "sources.found", "sources.slices",
        "sources.srv")  # fmt: skip
"""Decisions: the time is an argument and nothing is touched."""
IMPURE = {"asyncio", "socket", "time", "logging", "os", "select"}


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts if parts == ("__init__",) or parts[-1] != "__init__" else parts[:-1])] = path
    return found


MODULES = _modules()


def _within(name: str, places: set[str] | tuple[str, ...] | dict[str, set[str]]) -> list[str]:
    """Return those of `places` that are `name` or a package around it."""
    return [place for place in places if name == place or name.startswith(f"{place}.")]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute name of everything imported, `a.b` for `from a import b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _ours(imported: str) -> str | None:
    """Return the module of ours that `imported` names, without `lbproxy.`; None for others and for lbproxy itself."""
    if not imported.startswith("lbproxy."):
        return None
    name = imported.removeprefix("lbproxy.")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def test_the_table_goes_one_way() -> None:
    """A row allows only itself and what stands above it, so there can be no circle."""
    rows = list(ALLOWED)
    for place, row in enumerate(rows):
        assert all(_within(name, tuple(rows[: place + 1])) for name in ALLOWED[row]), f"{row} looks down"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_row_allows(module: str) -> None:
    """The direction is model, balance, dial and checker, session, app, process, command line; never back."""
    rows = _within(module, ALLOWED)
    assert rows, f"{MODULES[module]}: a new module needs a row in ALLOWED"
    row = max(rows, key=len)
    allowed = ALLOWED[row]
    wrong = [
        f"{MODULES[module]}:{line}: {module} may not import {name}"
        for line, imported in _imports(MODULES[module])
        if (name := _ours(imported)) and not _within(name, {*allowed, row, "record"})
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_a_dependency_is_imported_in_one_place(module: str) -> None:
    """So that a command pays for what it uses, and a dependency can be replaced."""
    wrong = [
        f"{MODULES[module]}:{line}: {module} may not import {imported}"
        for line, imported in _imports(MODULES[module])
        if (top := imported.partition(".")[0]) not in sys.stdlib_module_names | {"lbproxy"}
        and module not in THIRD_PARTY.get(top, set())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [name for name in MODULES if _within(name, PURE)])
def test_a_decision_touches_nothing(module: str) -> None:
    """Pure code is tested without sockets, sleeps and clocks."""
    wrong = [
        f"{MODULES[module]}:{line}: {module} decides and may not import {imported}"
        for line, imported in _imports(MODULES[module])
        if imported.partition(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_need_each_other() -> None:
    """A circle has no beginning to read from; imports within functions count too."""
    needs = {
        module: {name for _, imported in _imports(path) if (name := _ours(imported)) and name != module}
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    while free := [module for module, names in needs.items() if not names & needs.keys()]:
        for module in free:
            del needs[module]
    assert not needs, f"a circle among {sorted(needs)}"
