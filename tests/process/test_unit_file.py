"""The unit file as systemd's own tools see it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.need import need

UNIT = Path(__file__).parents[2] / "systemd" / "lbproxy.service"


def test_verify_finds_nothing(tmp_path: Path) -> None:
    """No unknown key, no bad value; the command is one that exists on this machine."""
    need("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/lbproxy", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_exposure_is_2_or_better() -> None:
    """0 is a service that can do nothing, 10 one that can do everything."""
    need("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT)], capture_output=True, text=True
    )
    found = re.search(r"Overall exposure level for lbproxy.service: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 2.0


def test_every_directive_has_its_reason() -> None:
    """Above each group of directives stands a comment."""
    lines = UNIT.read_text().splitlines()
    bare = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if "=" in line and not line.startswith("#") and (not above or above.startswith("["))
    ]
    assert bare == ["Description=Local load balancer for the Kubernetes API servers", "WantedBy=multi-user.target"]
