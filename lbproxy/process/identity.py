"""Who this node is, as far as choosing servers goes."""

from __future__ import annotations

import socket

from lbproxy.config.model import Config


def node_id(config: Config) -> str:
    """Return what seeds the order of equal servers: configured, or the machine id, or the host name."""
    if config.node_id != "auto":
        return config.node_id
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            machine_id = file.read().strip()
    except (OSError, ValueError):
        machine_id = ""
    return machine_id or socket.gethostname()
