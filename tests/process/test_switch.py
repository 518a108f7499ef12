"""/usr/lib/lbproxy/switch on a node with nginx in kubespray's configuration: to lbproxy, back, and undone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.support.node import ASIDE, LAST, MANIFEST, SWITCH, Node
from tests.support.packages import Packages
from tests.support.streams_checked import Numbered
from tests.support.wait import until

MASTERS = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
PER_SECOND = 10

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Make the packages."""
    return Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def streams() -> Iterator[Numbered]:
    """Run the masters."""
    with Numbered(MASTERS) as running:
        yield running


@pytest.fixture
def node(packages: Packages, streams: Numbered) -> Iterator[Node]:
    """Boot a node with nginx-proxy and lbproxy's package, configured and stopped."""
    with Node(packages, MASTERS, streams.port) as box:
        box.kubelet()
        box.dpkg("-i", packages.pack("deb"))
        servers = [f"{host}:{streams.port}" for host in MASTERS]
        health = {"type": "tcp", "interval": "1s"}
        box.configure({"proxies": {"p": {"listen": [f"127.0.0.1:{box.port}"], "servers": servers, "health": health}}})
        box.systemctl("disable")
        yield box


def switch(node: Node, to: str, *options: str) -> tuple[int, str]:
    """Run it; returns its status and what it said."""
    done = node.run(SWITCH, to, "--listen", f"127.0.0.1:{node.port}", *options, check=False)
    return done.returncode, done.stdout + done.stderr


def refused(streams: Numbered) -> int:
    """Return for how many milliseconds connections did not come off; beside those refused, nginx resets its queue."""
    visits = streams.stop_visits()
    assert visits.done
    return (visits.refused + visits.cut) * 1000 // PER_SECOND


def test_to_lbproxy_and_back_the_port_is_free_for_less_than_a_second(node: Node, streams: Numbered) -> None:
    """Both ways, and it says how long; once there it has nothing to do."""
    streams.open(node.port, steady=20)
    streams.visit(node.port, PER_SECOND)
    status, said = switch(node, "to-lbproxy")
    assert (status, node.holder(), node.active()) == (0, "lbproxy", "active enabled"), said
    assert "which could not be had until " in said
    assert (node.there(MANIFEST), node.there(ASIDE)) == (False, True)
    assert "nothing to do" in switch(node, "to-lbproxy")[1]
    node.run("touch", MANIFEST)  # as a run of kubespray would
    assert "has come back" in switch(node, "to-lbproxy", "--servers", "4")[1]
    assert (node.holder(), node.there(MANIFEST)) == ("lbproxy", False)
    streams.open(node.port, steady=20)
    status, said = switch(node, "back")
    assert (status, node.holder(), node.active()) == (0, "nginx", "inactive disabled"), said
    assert "nobody listened for " in said
    assert (node.there(MANIFEST), node.there(ASIDE)) == (True, False)
    assert "nothing to do" in switch(node, "back")[1]
    assert refused(streams) < 1000
    assert streams.finish().wrong == []


def test_an_api_server_with_the_port_of_another_address_is_not_taken_for_the_pod(node: Node, streams: Numbered) -> None:
    """As on the control plane with kube_apiserver_bind_address: when it says that nginx serves, nginx does."""
    with socket.create_server((MASTERS[0], node.port)):
        status, said = switch(node, "to-lbproxy")
        assert (status, node.holder()) == (0, "lbproxy"), said
        status, said = switch(node, "back")
        assert (status, node.holder(), node.active()) == (0, "nginx", "inactive disabled"), said


def test_without_enough_servers_nginx_is_not_touched(node: Node, streams: Numbered) -> None:
    """They are checked from beside it, so nobody notices."""
    streams.open(node.port, steady=20)
    streams.visit(node.port, PER_SECOND)
    status, said = switch(node, "to-lbproxy", "--wait", "2", "--servers", "4")
    assert (status, node.holder(), node.active()) == (1, "nginx", "inactive disabled"), said
    assert "3 of 3 servers up, 4 wanted" in said
    assert refused(streams) == 0
    assert streams.finish().intact == 20


def test_a_master_that_is_lost_in_the_switch_undoes_it(node: Node, streams: Numbered) -> None:
    """What was up before nginx went is not when lbproxy has its port."""
    node.write(LAST, f"lbproxy drain {MASTERS[0]}:{streams.port}\n")
    streams.visit(node.port, PER_SECOND)
    status, said = switch(node, "to-lbproxy", "--wait", "3")
    assert (status, node.holder(), node.active()) == (1, "nginx", "inactive disabled"), said
    assert "2 of 3 servers up, 3 wanted" in said
    assert node.there(MANIFEST)
    assert refused(streams) < 2000


def test_a_kubelet_that_does_nothing_undoes_it(node: Node, streams: Numbered) -> None:
    """Neither does lbproxy get the port to one side, nor is it given up to the other."""
    streams.visit(node.port, PER_SECOND)
    node.run("pkill", "-STOP", "-x", "kubelet")
    status, said = switch(node, "to-lbproxy", "--wait", "2")
    assert (status, node.holder(), node.active()) == (1, "nginx", "inactive disabled"), said
    assert f"127.0.0.1:{node.port} is still another program's after 2 s" in said
    node.run("pkill", "-CONT", "-x", "kubelet")
    assert switch(node, "to-lbproxy")[0] == 0
    node.run("pkill", "-STOP", "-x", "kubelet")
    status, said = switch(node, "back", "--wait", "2")
    assert (status, node.holder(), node.active()) == (1, "lbproxy", "active enabled"), said
    assert "the kubelet has not started nginx-proxy.yml within 2 s" in said
    node.run("pkill", "-CONT", "-x", "kubelet")
    assert node.there(ASIDE)
    assert refused(streams) < 1000


def test_who_hangs_up_does_not_stop_it_half_way(node: Node) -> None:
    """The connection over which it was started may be one through the port."""
    hangs_up = f"{SWITCH} to-lbproxy --listen 127.0.0.1:{node.port} | true & sleep 0.2; kill -HUP 0"
    node.run("setsid", "--wait", "sh", "-c", hangs_up, check=False)
    until(lambda: node.holder() == "lbproxy" and node.active() == "active enabled", "it was done", 30)
