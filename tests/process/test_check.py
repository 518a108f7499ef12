"""`lbproxy check`: what it says of a file is what a start would, for the user that the service runs as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.support import certs
from tests.support.daemon import one_proxy
from tests.support.wait import FACTOR

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can judge as somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a directory that everybody can look into, with a name that is quoted whole."""
    with TemporaryDirectory(prefix="lbproxy-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def check(directory: Path, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Check a file with these settings of its proxy, which only its owner can read."""
    file = directory / "lbproxy.yaml"
    config = {"control": f"{directory}/c.sock", **one_proxy(["127.0.0.1:1"], **settings)}
    if "control" in settings:
        config["control"] = config["proxies"]["p"].pop("control")
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    file.chmod(0o600)
    return subprocess.run([sys.executable, "-m", "lbproxy", "check", *words, str(file)],
                          capture_output=True, text=True, timeout=30 * FACTOR)  # fmt: skip


def test_a_file_may_be_given_as_it_is(tmp_path: Path) -> None:
    """Without -c, as with nearly every other checker."""
    done = check(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/lbproxy.yaml: ok\n", "")


def test_a_kubeconfig_that_cannot_be_used_is_found_before_the_service_meets_it(tmp_path: Path) -> None:
    """It can be read, and says nothing that one could ask with."""
    (tmp_path / "kubeconfig").write_text("apiVersion: v1\nkind: Config\n")
    done = check(tmp_path, servers_from={"kubernetes": {"kubeconfig": f"{tmp_path}/kubeconfig"}})
    assert done.returncode == 1
    assert "servers_from.kubernetes.kubeconfig: cannot be used" in done.stderr
    assert "there is no context '' in it" in done.stderr


@root
def test_a_key_that_only_root_can_read_is_found_before_the_service_meets_it(place: Path) -> None:
    """As in /etc/kubernetes/ssl; the file itself, which may be a draft of root's, is read as root."""
    made = certs.make(place)
    made.client.chmod(0o600)
    made.ca.chmod(0o644)
    place.chmod(0o777)
    health = {"ca_file": str(made.ca), "cert_file": str(made.client), "key_file": str(made.client)}
    assert check(place, health=health).returncode == 0
    done = check(place, "--as", "nobody", health=health)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{place}/lbproxy.yaml:10: proxies.p.health.cert_file: cannot be read: Permission denied: '{made.client}'",
        f"{place}/lbproxy.yaml:11: proxies.p.health.key_file: cannot be read: Permission denied: '{made.client}'",
    ]


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    """A file that is there and of no use would end the start."""
    made, other = certs.make(tmp_path), tmp_path / "other"
    other.mkdir()
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish\n")
    done = check(tmp_path, health={"ca_file": str(rubbish)})
    assert done.returncode == 1
    assert "lbproxy.yaml:9: proxies.p.health.ca_file: cannot be used: " in done.stderr
    done = check(tmp_path, health={"cert_file": str(made.client), "key_file": str(certs.make(other).client)})
    assert done.returncode == 1
    assert "lbproxy.yaml:9: proxies.p.health.cert_file: cannot be used with key_file " in done.stderr


@pytest.mark.parametrize(
    ("control", "why"),
    [
        ("/run/lbproxy/control.sock", ""),
        ("{place}/new/c.sock", ""),
        ("{place}/no/where/c.sock", "the directory {place}/no does not exist"),
        ("{place}/lbproxy.yaml/c.sock", "{place}/lbproxy.yaml is not a directory"),
        ("/" + 107 * "x", "a socket's path has at most 107 bytes"),
    ],
)
def test_a_control_socket_must_have_a_place(tmp_path: Path, control: str, why: str) -> None:
    """The directory of the default is made by systemd at the start."""
    done = check(tmp_path, control=control.format(place=tmp_path))
    line = f"{tmp_path}/lbproxy.yaml:1: control: {why}\n".format(place=tmp_path)
    assert (done.returncode, done.stderr) == ((1, line) if why else (0, ""))


@root
def test_a_control_socket_must_have_a_place_for_the_service(place: Path) -> None:
    """Root may write everywhere."""
    assert check(place).returncode == 0
    done = check(place, "--as", "nobody")
    assert (done.returncode, done.stderr) == (1, f"{place}/lbproxy.yaml:1: control: {place} cannot be written to\n")


def test_the_answer_comes_as_json_too(tmp_path: Path) -> None:
    """For a play that shows it; the status is the same."""
    done = check(tmp_path, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True
    done = check(tmp_path, "--json", idle_timeout="x")
    answer = json.loads(done.stdout)
    (problem,) = answer["problems"]
    assert (done.returncode, done.stderr, answer["ok"]) == (1, "", False)
    assert (answer["file"], problem["line"], problem["path"]) == (
        f"{tmp_path}/lbproxy.yaml",
        8,
        "proxies.p.idle_timeout",
    )


def test_a_user_that_is_not_there_is_1(tmp_path: Path) -> None:
    """One line, and nothing is said of the file."""
    done = check(tmp_path, "--as", "no-such-user")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lbproxy: there is no user 'no-such-user'\n"
