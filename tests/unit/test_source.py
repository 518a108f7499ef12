"""Rules about the source as text: sizes, names, and that nobody is lost in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.test_imports import MODULES, PACKAGE, TESTS, _within

LINES = 300
FUNCTION_LINES = 40
PUBLIC_METHODS = 12
MOST_ANY = 10

UNTESTED = {
    "errors": "values without behaviour; every test of a refusal reads their texts",
    "importer": "test_convert, test_nginx and test_haproxy read whole files through all of it",
    "process.dataplane": "a protocol",
    "config.found": "values; test_found of sources merges them",
    "sources.api": "test_kubernetes has it answered by all kinds of servers",
    "handover.handing": "a protocol; test_custody and test_upgrade try what one process does for it",
    "workers.follower": "test_worker tells one all it can be told",
    "workers.member": "test_worker drives a worker through it",
    "workers.nursery": "test_worker has each worker from one",
    "workers.handing": "test_supervisor and test_service hand over what workers have",
    "change": "test_cli carries out each of them",
    "process.commands": "test_cli asks for each of them",
    "config.model": "values; test_load reads every key of it",
    "status.snapshot": "values; test_render and test_metrics hold every field of it",
    "net.contract": "types, and two numbers",
    "net.plain": "test_syscalls tries both forms of the system calls",
    "status.shapes": "types; test_render holds every key of them",
    "status.http": "test_admin asks it whatever a client may ask",
    "balance.histogram": "test_server counts into one, and reads it",
    "whereabouts": "test_cli looks for a daemon in every way",
    "demo": "test_demo runs it whole",
    "__main__": "every test of process/ runs it",
}
"""Modules, and packages of them, that have no test file of their own, and why."""


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.c"), *PACKAGE.rglob("*.h")])
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_file_stays_short(path: Path) -> None:
    """One that outgrows this wants a second noun, be it Python or C."""
    assert path.read_text().count("\n") <= LINES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_function_fits_on_a_screen(module: str) -> None:
    """One that does not has a step in it that deserves a name."""
    long = [
        f"{MODULES[module]}:{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(_tree(module))
        if isinstance(node, Function) and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_class_has_one_job(module: str) -> None:
    """Whoever answers to more than a dozen calls does the work of two."""
    wide = [
        f"{MODULES[module]}:{node.lineno}: {node.name} has {len(public)} public methods"
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ClassDef)
        and len(public := {each.name for each in node.body if isinstance(each, Function) and each.name[0] != "_"})
        > PUBLIC_METHODS
    ]
    assert not wide, "\n".join(wide)


def test_any_stands_only_where_the_outside_forces_it() -> None:
    """Each line with Any is a line that mypy believes unread."""
    lines = [line for path in SOURCES for line in path.read_text().splitlines() if re.search(r"\bAny\b", line)]
    assert len(lines) <= MOST_ANY


@pytest.mark.parametrize("folder", FOLDERS, ids=_name)
def test_a_folder_names_every_module_in_it(folder: Path) -> None:
    """Its docstring is the map of it: a newcomer finds the room from the door."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    modules |= {path.name for path in folder.iterdir() if (path / "__init__.py").exists()}
    lost = {module for module in modules if f"`{module}`" not in text}
    assert not lost, f"{_name(folder)}/__init__.py does not name {sorted(lost)}"


def test_the_package_names_every_folder() -> None:
    """The first thing one reads leads to all the others."""
    text = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text())) or ""
    lost = {folder.name for folder in FOLDERS if folder.parent == PACKAGE and f"`{folder.name}/`" not in text}
    lost |= {f"{path.stem}.py" for path in PACKAGE.glob("[a-z]*.py") if f"`{path.stem}`" not in text}
    assert not lost, f"lbproxy/__init__.py does not name {sorted(lost)}"


@pytest.mark.parametrize("module", [name for name in MODULES if name != "tasks"])
def test_tasks_are_made_by_their_owner_alone(module: str) -> None:
    """A task without a name and an owner dies unheard of."""
    wrong = [
        f"{MODULES[module]}:{node.lineno}: use Tasks.spawn"
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in {"create_task", "ensure_future"}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name != "__init__.py"])
def test_a_module_has_its_test_file(module: str) -> None:
    """Where to look for the rules of a module is never a question."""
    *package, name = module.split(".")
    mirror = TESTS.joinpath("unit", *package, f"test_{name}.py")
    live = [TESTS / kind / f"test_{name}.py" for kind in ("live", "process")]
    found = [file for file in (mirror, *live) if file.exists()]
    assert found or _within(module, tuple(UNTESTED)), f"neither {mirror} nor one of that name in live/ or process/"
