"""Starts that must fail: one clear line, the documented exit status, and nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.child import Child
from tests.support.clients import flood, greeting
from tests.support.daemon import Daemon, one_proxy
from tests.support.need import need
from tests.support.netns import Namespace, inside
from tests.support.ports import listening
from tests.support.servers import Echo
from tests.support.wait import FACTOR, until

PRIVILEGED = 80


def run(directory: Path, config: dict[str, Any] | str, *words: str, ns: Namespace | None = None,
        mode: int = 0o644, nofile: int | None = None) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run `lbproxy run` to its end, as root without what makes root special; assert one line and no traceback."""
    file = directory / "lbproxy.yaml"
    file.write_text(config if isinstance(config, str) else yaml.safe_dump({"control": f"{directory}/c.sock", **config}))
    file.chmod(mode)
    command = [sys.executable, "-m", "lbproxy", "run", "-c", str(file), *words]
    if os.geteuid() == 0:
        need("setpriv")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *command]
    if nofile:
        command = ["prlimit", f"--nofile={nofile}:{nofile}", *command]
    with inside(ns):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * FACTOR)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line on stderr of a start that was refused."""
    assert done.returncode == 1
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


class Uncontrolled(Daemon):
    """A daemon whose control socket cannot be where it is told to be."""

    def __init__(self, config: dict[str, Any], path: str) -> None:
        super().__init__({**config, "control": path})

    def ready(self) -> bool:
        """Whether the ports listen."""
        return Child.ready(self)


@pytest.fixture
def namespace() -> Iterator[Namespace | None]:
    """Make a network where low ports are root's, which a machine may have changed for its own."""
    if os.geteuid() != 0:
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= PRIVILEGED:
            pytest.skip("on this machine anybody may bind a low port")
        yield None
        return
    need("netns", "ip")
    made = Namespace()
    yield made
    made.close()


def test_a_port_that_one_may_not_bind(tmp_path: Path, namespace: Namespace | None) -> None:
    """Started by hand without root, say; the line says which proxy and where."""
    done = run(tmp_path, one_proxy(["127.0.0.1:1"], f"127.0.0.1:{PRIVILEGED}"), ns=namespace)
    assert only_line(done).endswith(f"p: cannot listen on 127.0.0.1:{PRIVILEGED}: Permission denied")
    assert list(tmp_path.glob("c.sock*")) == []


def test_a_port_in_use_with_workers(tmp_path: Path) -> None:
    """No worker is started before everything is bound."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        done = run(tmp_path, {**one_proxy(["127.0.0.1:1"], address), "workers": 2})
    assert only_line(done).endswith(f"p: cannot listen on {address}: Address already in use")


def test_a_second_proxy_that_cannot_listen_takes_the_first_with_it(tmp_path: Path) -> None:
    """Half of a configuration is none."""
    config = one_proxy(["127.0.0.1:1"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        config["proxies"]["q"] = {"listen": [address], "servers": ["127.0.0.1:2"]}
        done = run(tmp_path, config)
    assert only_line(done).endswith(f"q: cannot listen on {address}: Address already in use")
    assert int(config["proxies"]["p"]["listen"][0].rpartition(":")[2]) not in listening()


@pytest.mark.parametrize("where", ["/proc/nothing/control.sock", "file/control.sock", "directory", 120 * "x"])
def test_without_a_control_socket_it_serves(tmp_path: Path, where: str) -> None:
    """A read-only /run, or anything else in its place, is no reason to cut a node off; the path is named."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    path = str(tmp_path / where)
    with Echo("one") as one, Uncontrolled(one_proxy([one]), path) as daemon:
        assert greeting(daemon.port) == "one"
        until(lambda: path in daemon.log)
        until(lambda: "no command is answered" in daemon.log)


def test_a_configuration_that_one_may_not_read(tmp_path: Path) -> None:
    """The usual mistake with a file that somebody else has made."""
    done = run(tmp_path, one_proxy(["127.0.0.1:1"]), mode=0)
    assert only_line(done) == f"{tmp_path / 'lbproxy.yaml'}: cannot be read: Permission denied"


def test_a_certificate_that_one_may_not_read(tmp_path: Path) -> None:
    """What checks will need is looked at before anything listens."""
    key = tmp_path / "ca.pem"
    key.touch(mode=0)
    done = run(tmp_path, one_proxy(["127.0.0.1:1"], health={"ca_file": str(key)}))
    assert str(key) in only_line(done)


def test_a_broken_configuration_shows_every_problem_and_nothing_else(tmp_path: Path) -> None:
    """A line for each, with its place."""
    done = run(tmp_path, "workers: 0\nproxies:\n  p: {listen: ['127.0.0.1:1'], servers: []}\n")
    assert done.returncode == 1
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == [
        f"{tmp_path}/lbproxy.yaml:1:", f"{tmp_path}/lbproxy.yaml:3:"]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_name_that_does_not_resolve_is_not_a_failed_start(workers: int) -> None:
    """It is a server that is down, and a line in the log."""
    with Echo("one") as one:
        name = f"nobody.invalid:{one.port}"
        with Daemon({**one_proxy([name, one]), "workers": workers}) as daemon:
            assert flood(daemon.port, 20).answers == {"one": 20}
            server = daemon.servers()[name]
            assert (server["state"], server["reason"]) == ("down", "its name does not resolve")


@pytest.mark.parametrize("limit", [10, 16, 31])
def test_fewer_descriptors_than_a_start_takes_are_a_line(tmp_path: Path, limit: int) -> None:
    """Each number of them failed at a place of its own, most of them in uvloop."""
    done = run(tmp_path, one_proxy(["127.0.0.1:1"]), nofile=limit)
    assert only_line(done) == f"a limit of {limit} open files is too low, 32 is the least: raise LimitNOFILE"


def test_few_descriptors_are_said_and_do_not_stop_a_start() -> None:
    """With 64 of them and clients for many more it starts, serves as many as it can, and then the others."""
    with Echo("one") as one, Daemon(one_proxy([one]), nofile=64) as daemon:
        clients = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(200)]
        until(lambda: 0 < len(daemon.conns()) < 64, "as many as can be are served")
        assert daemon.cli("status").returncode == 0
        for client in clients:
            client.close()
        assert greeting(daemon.port) == "one"
        until(lambda: "out of file descriptors" in daemon.log)
