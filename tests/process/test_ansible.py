"""config/ansible by ansible-playbook, on nodes with a real systemd."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Collection, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.need import need
from tests.support.node import ASIDE, MANIFEST, Node
from tests.support.packages import Packages
from tests.support.playbooks import Playbooks
from tests.support.ports import free_port
from tests.support.servers import Echo
from tests.support.streams_checked import Numbered
from tests.support.watches import Watches

MASTERS = {"m1": "127.0.0.2", "m2": "127.0.0.3", "m3": "127.0.0.4"}
HEALTH = {"type": "tcp", "interval": "500ms", "rise": 1}
PER_SECOND = 10

pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make the packages."""
    return Packages(tmp_path_factory.mktemp("packages"))


def package(packages: Packages, version: str = "", kind: str = "deb") -> dict[str, str]:
    """Return the variables for a package."""
    file = packages.file(kind, version)
    checksum = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    return {"lbproxy_package": str(file), "lbproxy_package_checksum": checksum}


def masters(**variables: Any) -> dict[str, dict[str, Any]]:
    """Return the masters' part of the inventory."""
    return {
        name: {"ip": host, "ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        for name, host in MASTERS.items()
    }


def inventory(directory: Path, nodes: dict[str, Node]) -> Playbooks:
    """Return the playbooks for these nodes and the three masters, none of which has an lbproxy."""
    variables = {name: node.variables for name, node in nodes.items()}
    return Playbooks(directory, kube_node=variables, kube_control_plane=masters(ansible_become=False))


def test_the_role_and_the_playbooks_are_as_ansible_lint_wants_them(tmp_path: Path) -> None:
    """By the rules for what others run in production."""
    done = Playbooks(tmp_path).lint()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_node_is_migrated_and_rolled_back(packages: Packages, tmp_path: Path) -> None:
    """Under new connections and streams; what does not verify stays with nginx, and what is done is not done again."""
    with Numbered(list(MASTERS.values())) as streams, Node(packages, list(MASTERS.values()), streams.port) as node:
        node.kubelet()
        books = inventory(tmp_path, {"node1": node})
        settings = {
            "kube_apiserver_port": streams.port,
            "loadbalancer_apiserver_type": "lbproxy",
            "lbproxy_proxy_settings": {"health": HEALTH},
        }
        streams.open(node.port, steady=20)
        streams.visit(node.port, PER_SECOND)

        played = books.play("migrate", "--check", "--diff", **settings, **package(packages))
        assert played.changed["node1"] > 0
        assert f"+    - 127.0.0.1:{node.port}" in played.text
        assert not node.there("/usr/bin/lbproxy")
        books.play("rollout", **settings, **package(packages))
        assert (node.holder(), node.active()) == ("nginx", "inactive disabled")
        nowhere = {**settings, "lbproxy_master_port": free_port()}
        played = books.play("migrate", fails=True, lbproxy_wait=5, **nowhere)
        assert "0 of 3 servers up, 3 wanted" in played.text
        assert (node.holder(), node.active(), node.there(MANIFEST)) == ("nginx", "inactive disabled", True)
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)

        streams.visit(node.port, PER_SECOND)
        assert books.play("migrate", "--check", **settings).changed["node1"] == 2
        assert "which could not be had until " in books.play("migrate", **settings).text
        assert (node.holder(), node.active(), node.there(ASIDE)) == ("lbproxy", "active enabled", True)
        assert books.play("migrate", **settings, **package(packages)).changed["node1"] == 0
        streams.open(node.port, steady=20)
        assert books.play("rollback", "--check", **settings).changed["node1"] == 1
        assert node.holder() == "lbproxy"
        assert "nobody listened for " in books.play("rollback", **settings).text
        assert (node.holder(), node.active(), node.there(MANIFEST)) == ("nginx", "inactive disabled", True)
        assert books.play("rollback", **settings).changed["node1"] == 0
        visits = streams.stop_visits()
        assert visits.refused + visits.cut < PER_SECOND
        assert streams.finish().wrong == []


@contextlib.contextmanager
def three_nodes(packages: Packages, port: int) -> Iterator[dict[str, Node]]:
    """Boot three nodes without an nginx-proxy."""
    with contextlib.ExitStack() as stack:
        boxes = [stack.enter_context(Node(packages, list(MASTERS.values()), port)) for _ in range(3)]
        yield {f"node{number}": box for number, box in enumerate(boxes, 1)}


UPGRADE = """
- name: Ask for it
  ansible.builtin.copy:
    content: ""
    dest: "{{ directory }}/{{ lbproxy_master }}.asked"
    mode: "0644"
- name: Wait for it
  ansible.builtin.wait_for:
    path: "{{ directory }}/{{ lbproxy_master }}.done"
    timeout: 60
"""


class Upgrades(threading.Thread):
    """Restarts a master when asked for by a file, and says so by another one; `left` are its connections then."""

    def __init__(self, directory: Path, servers: dict[str, Echo], nodes: Collection[Node]) -> None:
        super().__init__(name="upgrades")
        self._directory = directory
        self._servers = servers
        self._nodes = nodes
        self.left: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Wait for files until it is `over`."""
        while not self.over.wait(0.05):
            for name in self._servers.keys() - self.left.keys():
                if (self._directory / f"{name}.asked").exists():
                    self.left[name] = sum(servers(node)[name]["connections"] for node in self._nodes)
                    self._servers[name].stop()
                    self.over.wait(1)
                    self._servers[name].start()
                    (self._directory / f"{name}.done").touch()


def servers(node: Node) -> dict[str, Any]:
    """Return the masters as a node sees them."""
    found: dict[str, Any] = node.status()["proxies"]["kube-apiserver"]["servers"]
    return found


def test_masters_are_upgraded_one_by_one_and_no_connect_fails(packages: Packages, tmp_path: Path) -> None:
    """On three nodes with watches: each master is away for a while, with no connection left on it."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        echoes = {name: stack.enter_context(Echo(name, host, port)) for name, host in MASTERS.items()}
        nodes = stack.enter_context(three_nodes(packages, port))
        books = inventory(tmp_path, nodes)
        proxy = {"health": HEALTH, "drain_timeout": "1s"}
        settings = {"kube_apiserver_port": port, "lbproxy_proxy_settings": proxy}
        for node in nodes.values():
            node.dpkg("-i", packages.pack("deb"))
        books.play("rollout", **settings)
        assert books.play("rollout", "--limit", "node3", **settings).changed == {"node3": 0}
        (tmp_path / "upgrade.yml").write_text(UPGRADE)
        upgrade = {
            "lbproxy_upgrade_tasks": str(tmp_path / "upgrade.yml"),
            "lbproxy_upgrade_done": f"test -e {tmp_path}/{{{{ lbproxy_master }}}}.done",
            "directory": str(tmp_path),
        }
        upgrades = Upgrades(tmp_path, echoes, nodes.values())
        stack.callback(upgrades.join)
        stack.callback(upgrades.over.set)
        watches = stack.enter_context(Watches([node.port for node in nodes.values()], 50))
        upgrades.start()
        books.play("upgrade-masters", **settings, **upgrade)
        assert upgrades.left == dict.fromkeys(MASTERS, 0)
        assert watches.begun > 50
        assert set(books.play("upgrade-masters", **settings, **upgrade).changed.values()) == {0}
        assert {each["state"] for node in nodes.values() for each in servers(node).values()} == {"up"}

        one = ("--limit", "node1")
        assert books.play("drain", *one, lbproxy_master="m1", **settings).changed == {"node1": 1}
        assert books.play("drain", *one, lbproxy_master="m1", **settings).changed == {"node1": 0}
        assert servers(nodes["node1"])["m1"]["connections"] == 0
        assert books.play("ready", *one, lbproxy_master="m1", **settings).changed == {"node1": 1}
        assert books.play("ready", *one, lbproxy_master="m1", **settings).changed == {"node1": 0}
        assert "no server is called m4" in books.play("drain", *one, fails=True, lbproxy_master="m4", **settings).text
        assert watches.failed() == []


@contextlib.contextmanager
def shared(directory: Path) -> Iterator[str]:
    """Serve what is in `directory` by HTTP; gives its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 (its name there)
        pass


def test_another_version_or_configuration_costs_no_connection(packages: Packages, tmp_path: Path) -> None:
    """On a node of the control plane, whose kube-apiserver listens on one address of its own."""
    with Numbered(list(MASTERS.values())) as streams, Node(packages, list(MASTERS.values()), streams.port) as node:
        node.run("mkdir", "-p", "/etc/kubernetes/manifests")
        node.run("touch", "/etc/kubernetes/manifests/kube-apiserver.yaml")
        control_plane = {"m1": {"ip": MASTERS["m1"], **node.variables}, "m2": {"ip": MASTERS["m2"]}}
        books = Playbooks(tmp_path, kube_node={}, kube_control_plane=control_plane)
        settings = {"kube_apiserver_port": streams.port, "lbproxy_proxy_settings": {"health": HEALTH}}
        assert books.play("rollout", "--limit", "m1", **settings).changed == {"m1": 0}
        assert not node.there("/usr/bin/lbproxy")
        settings["kube_apiserver_bind_address"] = MASTERS["m1"]
        books.play("rollout", "--limit", "m1", **settings, **package(packages))
        assert node.active() == "active enabled"
        streams.open(node.port, steady=20)
        streams.visit(node.port, PER_SECOND)
        pid = node.pid()
        settings["lbproxy_proxy_settings"] = {"health": HEALTH, "idle_timeout": "5m"}
        assert books.play("rollout", "--limit", "m1", **settings).changed["m1"] > 0
        assert node.pid() == pid
        played = books.play(
            "rollout", "--limit", "m1", fails=True, **{**settings, "lbproxy_settings": {"workers": "x"}}
        )
        assert "workers: " in played.text
        assert "workers" not in node.run("cat", "/etc/lbproxy/lbproxy.yaml").stdout
        newer = package(packages, "9.9.9")
        with shared(packages.directory) as url:
            newer["lbproxy_package"] = f"{url}/{Path(newer['lbproxy_package']).name}"
            books.play("rollout", "--limit", "m1", **settings, **newer)
        assert node.status()["version"] == "9.9.9"
        streams.progress()
        visits = streams.stop_visits()
        assert (visits.refused, visits.cut) == (0, 0)
        assert streams.finish().intact == 20


ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nNAME="Rocky Linux"\nVERSION_ID="9.4"\n'


def test_a_node_of_the_el_family_has_its_rpm_installed_by_dnf(packages: Packages, tmp_path: Path) -> None:
    """Not tried here is EL itself: the node is this distribution, and says of itself that it is another.

    Ansible's facts, its module, dnf and rpm are real; what the package depends on, a package without files provides.
    """
    need("rpm", "python3-dnf")
    with Numbered(list(MASTERS.values())) as streams, Node(packages, list(MASTERS.values()), streams.port) as node:
        node.run("rpm", "--install", packages.machine())
        node.run("touch", "/usr/bin/dnf")  # by which Ansible tells dnf from its successor
        node.run("rm", "/etc/os-release")
        node.write("/etc/os-release", ROCKY)
        node.write("/etc/redhat-release", "Rocky Linux release 9.4 (Blue Onyx)\n")
        books = inventory(tmp_path, {"node1": node})
        settings = {"kube_apiserver_port": streams.port, "lbproxy_proxy_settings": {"health": HEALTH}}
        first = {**settings, **package(packages, kind="rpm")}
        newer = {**settings, **package(packages, "9.9.9", "rpm")}

        assert books.play("rollout", "--check", "--diff", **first).changed["node1"] > 0
        assert not node.there("/usr/bin/lbproxy")
        assert books.play("rollout", **first).changed["node1"] > 0
        assert node.run("rpm", "-q", "--queryformat=%{version}", "lbproxy").stdout == packages.version
        assert node.run("dpkg", "--status", "lbproxy", check=False).returncode == 1
        assert node.active() == "active enabled"
        assert books.play("rollout", **first).changed["node1"] == 0

        streams.open(node.port, steady=20)
        for variables, version in ((newer, "9.9.9"), (first, packages.version)):
            assert books.play("rollout", **variables).changed["node1"] > 0
            assert node.status()["version"] == version
            streams.progress()
        assert node.show("NRestarts") == "0"
        assert streams.finish().intact == 20
