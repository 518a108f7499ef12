"""What docs/ says of lbproxy, held against lbproxy: made pages, log lines, alerts, metric names."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lbproxy.status.metrics import render
from tests.unit.status.test_metrics import server, snapshot
from tests.unit.test_imports import MODULES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error", "critical": "error", "log": ""}
"""By the name of the call; `log` has the level as an argument, and its row may say any."""


@pytest.mark.parametrize("page", ["keys.md", "commands.md", "metrics.md"])
def test_a_made_page_is_as_it_would_be_made_now(page: str) -> None:
    """A key, an option or a metric that is added is in the documents too: run `make docs`."""
    made = runpy.run_path(str(ROOT / "packaging/reference.py"))
    assert (DOCS / "reference" / page).read_text() == made["text"](page)


def said(module: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that a module logs at info and above: the logger's last part with the format, and the level."""
    tree = ast.parse(MODULES[module].read_text())
    assigned = list(_assigned(tree))
    loggers = {
        name: _short(value.args[0], module)
        for name, value in assigned
        if isinstance(value, ast.Call) and value.args and ast.unparse(value.func) == "logging.getLogger"
    }
    texts = {name: value.value for name, value in assigned if isinstance(value, ast.Constant)}
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
            continue
        owner, verb = call.func.value, call.func.attr
        if isinstance(owner, ast.Name) and owner.id in loggers and verb in LEVELS:
            text = call.args[1 if verb == "log" else 0]
            line = texts[text.id] if isinstance(text, ast.Name) else ast.literal_eval(text)
            yield f"{loggers[owner.id]}: {line}".replace("\n", r"\n"), LEVELS[verb]


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            (target, *_) = each.targets if isinstance(each, ast.Assign) else (each.target,)
            if isinstance(target, ast.Name):
                yield target.id, each.value


def _short(name: ast.expr, module: str) -> str:
    return str(name.value if isinstance(name, ast.Constant) else module).rpartition(".")[2]


def rows() -> list[tuple[str, str]]:
    """Return the table's lines and their levels; a row may have several, with a semicolon between."""
    found = re.findall(r"^\| (`\w+: .+?`) \| ([^|`]+) \|", (DOCS / "log-lines.md").read_text(), re.MULTILINE)
    return [(line, level) for cell, level in found for line in re.findall(r"`([^`]+)`", cell)]


def test_every_log_line_is_explained_and_no_other() -> None:
    """Who reads one at night finds what it means; a line that is reworded takes its row along."""
    logged = {each for module in MODULES for each in said(module)}
    assert len(logged) > 60
    table = rows()
    assert len(set(table)) == len(table)
    levels = {(line, level) for line, level in table}
    lost = {(line, level) for line, level in logged if not any(line == at and level in told for at, told in levels)}
    assert not lost, f"docs/log-lines.md lacks {sorted(lost)}"
    idle = {at for at, told in levels if not any(at == line and level in told for line, level in logged)}
    assert not idle, f"docs/log-lines.md has what is not logged: {sorted(idle)}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as mkdocs and the forges make them of plain words."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_alert_has_its_place_in_the_runbook() -> None:
    """The annotation leads there, and no section is of an alert that is gone."""
    alerts = yaml.safe_load((ROOT / "config/prometheus/alerts.yaml").read_text())
    rules = {rule["alert"]: rule for group in alerts["groups"] for rule in group["rules"]}
    places = headings(DOCS / "runbook.md")
    assert {place for place in places if place.startswith("lbproxy")} == {name.lower() for name in rules}
    for name, rule in rules.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_every_link_and_anchor_in_the_repository_is_there() -> None:
    """A strict build looks at those of docs/ alone, and a forge at none."""
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "bench/README.md", ROOT / "config/ansible/README.md"]
    for page in pages:
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor in headings(target), f"{page.name}: {path}#{anchor}"


def test_every_metric_that_is_named_in_the_documents_is_there() -> None:
    """What is renamed is renamed everywhere."""
    families = set(re.findall(r"^# TYPE (\S+)", "".join(render(snapshot(server()))), re.MULTILINE))
    variables = set(re.findall(r"lbproxy_\w+", (ROOT / "config/ansible/README.md").read_text()))
    for page in (ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in set(re.findall(r"`((?:lbproxy|process)_\w+)", page.read_text())) - variables:
            assert re.sub("_(bucket|sum|count)$", "", name) in families, f"{page.name}: {name}"
