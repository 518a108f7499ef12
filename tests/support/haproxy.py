"""A real HAProxy with the settings that kubespray gives it."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from tests.support.child import Child
from tests.support.need import find, need
from tests.support.netns import Namespace
from tests.support.ports import free_port

# roles/kubernetes/node/templates/loadbalancer/haproxy.cfg.j2 of kubespray, without the parts for IPv6 and its pod
_CONFIG = """
global
    maxconn 4000
defaults
    mode tcp
    option dontlognull
    option redispatch
    retries 5
    timeout queue 5m
    timeout connect 30s
    timeout client 5m
    timeout server 15m
    timeout check 30s
    maxconn 4000
frontend kube_api_frontend
    bind {address}
    default_backend kube_api_backend
backend kube_api_backend
    balance leastconn
    default-server inter 15s downinter 15s rise 2 fall 2 slowstart 60s maxconn 1000 maxqueue 256 weight 100
    {checks}
    {servers}
"""


class HAProxy(Child):
    """HAProxy in front of `servers` (`host:port`); `checks` asks each for /healthz over TLS, as there."""

    stop_signal = signal.SIGUSR1

    def __init__(
        self, servers: Iterable[str], host: str = "127.0.0.1", port: int = 0,
        ns: Namespace | None = None, checks: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(ns)
        self.host = host
        self.port = port or free_port()
        self.ports = [self.port]
        self._servers = list(servers)
        self._checks = checks

    @property
    def address(self) -> str:
        """`host:port`, as in the configuration."""
        return f"{self.host}:{self.port}"

    def prepare(self) -> None:
        """Write haproxy.cfg."""
        need("haproxy")
        ask = " check check-ssl verify none" if self._checks else ""
        file = self.dir / "haproxy.cfg"
        file.write_text(
            _CONFIG.format(
                address=self.address,
                checks="option httpchk GET /healthz\n    http-check expect status 200" if self._checks else "",
                servers="\n    ".join(f"server m{n} {address}{ask}" for n, address in enumerate(self._servers, 1)),
            )
        )
        self.command = [find("haproxy") or "haproxy", "-db", "-f", str(file)]
