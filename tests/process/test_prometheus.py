"""The metrics, alerts and dashboard as Prometheus' own tools judge them, and held against a daemon's page."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.certs import Certs
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "config" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "config" / "grafana" / "lbproxy.json"
NAMES = re.compile(r"\b(?:lbproxy|process)_[a-z_]+[a-z]\b(?!\")")
"""Of metrics; the value of the label job, which stands in quotes, is none."""


def promtool(*words: str, given: str = "") -> None:
    """Run it; everything it has to say is a failure."""
    need("promtool")
    done = subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, timeout=60 * FACTOR)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.fixture(scope="module")
def page(certs: Certs) -> Iterator[str]:
    """Return the metrics of a daemon whose server, a host name with a certificate, has been checked."""
    port = free_port()
    with Echo(tls=certs.server_context()) as one:
        name = f"localhost:{one.port}"
        config = one_proxy([name], health={"type": "tls", "interval": 0.2, "timeout": 0.5 * FACTOR})
        with Daemon({**config, "admin": {"listen": f"127.0.0.1:{port}"}}) as daemon:
            until(lambda: daemon.servers()[name]["state"] == "up")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10 * FACTOR) as answer:
                yield answer.read().decode()


def test_the_metrics_are_as_prometheus_wants_them(page: str) -> None:
    """Names, units, types and help."""
    promtool("check", "metrics", given=page)


def test_every_family_has_a_series_right_after_the_start(page: str) -> None:
    """increase() sees nothing of what begins with its first event."""
    families = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    series = {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"^([a-z]\w+)[{ ]", page, re.MULTILINE)}
    assert families == series


def test_the_alerts_fire_when_they_should_and_not_before() -> None:
    """Each is held against series that were made for it."""
    promtool("check", "rules", str(ALERTS))
    tests = ROOT / "tests" / "data" / "prometheus" / "alerts.yaml"
    promtool("test", "rules", str(tests))
    rules = {rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
    tried = {
        each["alertname"] for test in yaml.safe_load(tests.read_text())["tests"] for each in test["alert_rule_test"]
    }
    assert tried == rules


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
def test_whatever_is_asked_for_is_there(page: str, file: Path) -> None:
    """A metric that is renamed must not leave an alert behind that never fires, or an empty panel."""
    if file == DASHBOARD:
        found = json.loads(file.read_text())
        asked = [target["expr"] for panel in found["panels"] for target in panel["targets"]]
        asked += [each.get("definition", "") for each in found["templating"]["list"]]
    else:
        asked = [rule["expr"] for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
    names = {name for expression in asked for name in NAMES.findall(expression)}
    assert len(names) > 8
    assert names <= set(re.findall(r"^([a-z]\w+)[{ ]", page, re.MULTILINE))
