"""The page as a browser shows it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import connect, receive_line
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

EVIL = "<b id=evil>"
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr", "--virtual-time-budget=6000",
)  # fmt: skip
"""It runs as root in CI, dials nobody but the page, says what the page's script says, and waits for three pictures."""


@pytest.fixture(scope="module")
def admin() -> Iterator[str]:
    """Run a daemon with a server that works and one that refuses; yields the address of its page."""
    need("chromium")
    port = free_port()
    with Echo("one") as one:
        servers = [{"name": "m1", "address": one.address}, {"name": "m2", "address": f"127.0.0.1:{free_port()}"}]
        config = one_proxy(servers, health={"type": "tcp", "interval": 0.2, "timeout": 0.5})
        with Daemon({**config, "admin": {"listen": f"127.0.0.1:{port}"}}) as daemon, connect(daemon.port) as client:
            receive_line(client)
            until(lambda: daemon.servers()["m2"]["state"] == "down")
            until(lambda: daemon.servers()["m1"]["state"] == "up")
            daemon.rewrite({**config, EVIL: 1})
            assert daemon.cli("reload").returncode == 1
            yield f"http://127.0.0.1:{port}/"


def browse(url: str, home: Path) -> str:
    """Return the document as it is after some seconds, if its script met no error."""
    done = subprocess.run(
        ["chromium", *QUIET, f"--user-data-dir={home}", "--dump-dom", url],
        capture_output=True, text=True, timeout=120 * FACTOR, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def test_the_page_shows_servers_events_and_connections(admin: str, tmp_path: Path) -> None:
    """What is up and what is down, in words and not by colour alone, why, since when, and what happened."""
    page = browse(admin, tmp_path)
    assert re.search("<title>1/2 up \u2013 [^<]+</title>", page)
    rows = re.findall(r'<tr class="(up|down)">(.*?)</tr>', page)
    assert [(state, f" {state}</td>" in row) for state, row in rows] == [("up", True), ("down", True)]
    assert "connection refused" in rows[1][1]
    assert re.search(r"s ago, took \d+ ms", rows[0][1])
    assert "<path" in rows[0][1]
    assert "server m2 is down" in page
    assert "1 open connections" in page
    assert "as of " in page


def test_what_others_have_written_is_text(admin: str, tmp_path: Path) -> None:
    """A file, a name or a server's answer may hold markup."""
    page = browse(admin, tmp_path)
    assert page.count("&lt;b id=evil&gt;") >= 2  # among what is wrong, and among what happened
    assert "<b id" not in page
