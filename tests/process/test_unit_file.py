"""The unit files as systemd's own tools see them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.box import Box
from tests.support.need import need

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = ("lbproxy.service", "lbproxy.socket", "lbproxy.slice")


def test_verify_finds_nothing(tmp_path: Path) -> None:
    """No unknown key, no bad value; the command is one that exists on this machine."""
    need("systemd-analyze")
    for name in NAMES:
        (tmp_path / name).write_text((UNITS / name).read_text().replace("/usr/bin/lbproxy", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *(str(tmp_path / name) for name in NAMES)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_verify_finds_nothing_where_they_are_installed(tmp_path: Path) -> None:
    """The same in a box, whose systemd may be a newer one (LBPROXY_TEST_LAYER)."""
    command = tmp_path / "lbproxy"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    binds = {UNITS / name: f"/etc/systemd/system/{name}" for name in NAMES}
    with Box(binds={**binds, command: "/usr/bin/lbproxy"}) as box:
        done = box.run("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *binds.values(), check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        score = box.run("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager",
                        binds[UNITS / "lbproxy.service"], check=False)  # fmt: skip
        assert score.returncode == 0, score.stdout


def test_the_exposure_is_2_or_better() -> None:
    """0 is a service that can do nothing, 10 one that can do everything."""
    need("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / "lbproxy.service")],
        capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for lbproxy.service: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 2.0


@pytest.mark.parametrize("name", NAMES)
def test_every_directive_has_its_reason(name: str) -> None:
    """Above each group of directives stands a comment; what only names the unit needs none."""
    lines = (UNITS / name).read_text().splitlines()
    bare = [
        line.partition("=")[0]
        for above, line in zip(["", *lines], lines, strict=False)
        if "=" in line and not line.startswith("#") and (not above or above.startswith("["))
    ]
    assert set(bare) <= {"Description", "WantedBy"}
