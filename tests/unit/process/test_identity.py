"""Who a node is: the seed of the order in which it prefers equal servers."""

from __future__ import annotations

import socket
from pathlib import Path

from lbproxy.config.load import loads
from lbproxy.process.identity import node_id


def _config(line: str = "") -> str:
    return f"{line}\nproxies: {{p: {{listen: 127.0.0.1:6443, servers: [127.0.0.1:7001]}}}}\n"


def test_a_configured_id_counts() -> None:
    """An operator may give nodes with one machine id (clones of an image) ids of their own."""
    assert node_id(loads(_config("node_id: node-7"), "f")) == "node-7"


def test_auto_is_the_machine_id_or_else_the_host_name() -> None:
    """Either is there on every node, differs between nodes and survives a reboot."""
    file = Path("/etc/machine-id")
    machine_id = file.read_text().strip() if file.exists() else ""
    assert node_id(loads(_config(), "f")) == (machine_id or socket.gethostname())
