"""Who this node is, as far as choosing servers goes."""

from __future__ import annotations

import socket
from pathlib import Path

from lbproxy.config.model import Config


def node_id(config: Config) -> str:
    """Return what seeds the order of equal servers: configured, or the machine id, or the host name."""
    if config.node_id != "auto":
        return config.node_id
    try:
        machine_id = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        machine_id = ""
    return machine_id or socket.gethostname()
