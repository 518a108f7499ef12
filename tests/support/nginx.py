"""A real nginx: as a TLS and HTTP/2 server that answers its name, and as the stream proxy that kubespray sets up."""

from __future__ import annotations

import signal
from collections.abc import Iterable

from tests.support.certs import Certs
from tests.support.child import Child
from tests.support.need import STREAM_MODULE, find, need
from tests.support.netns import Namespace
from tests.support.ports import free_port

_MAIN = """
pid {dir}/nginx.pid;
error_log stderr notice;
worker_processes {workers};
daemon off;
"""

_SERVER = """
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {dir}/1;
    proxy_temp_path {dir}/2;
    fastcgi_temp_path {dir}/3;
    uwsgi_temp_path {dir}/4;
    scgi_temp_path {dir}/5;
    server {{
        listen {address} ssl http2;
        ssl_certificate {certs.server};
        ssl_certificate_key {certs.server};
        default_type text/plain;
        location / {{ return 200 "{name}\\n"; }}
        location = /readyz {{ return 200 "ok"; }}
        location /files/ {{ alias {dir}/files/; }}
    }}
}}
"""

# roles/kubernetes/node/templates/loadbalancer/nginx.conf.j2 of kubespray, without the parts for IPv6 and its pod
_STREAM = """
load_module {module};
worker_shutdown_timeout 10s;
events {{ multi_accept on; use epoll; worker_connections 4096; }}
stream {{
    upstream kube_apiserver {{
        least_conn;
        {servers}
    }}
    server {{
        listen {address};
        proxy_pass kube_apiserver;
        proxy_timeout 10m;
        proxy_connect_timeout 1s;
    }}
}}
"""


class Nginx(Child):
    """An nginx process; the subclasses write its configuration."""

    stop_signal = signal.SIGQUIT

    def __init__(self, host: str, port: int, ns: Namespace | None) -> None:
        super().__init__(ns)
        self.host = host
        self.port = port or free_port()
        self.ports = [self.port]

    @property
    def address(self) -> str:
        """`host:port`, as in the configuration."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def prepare(self) -> None:
        """Write nginx.conf."""
        need("nginx")
        file = self.dir / "nginx.conf"
        file.write_text(self.text())
        self.command = [find("nginx") or "nginx", "-e", "stderr", "-p", str(self.dir), "-c", str(file)]

    def text(self) -> str:
        """Return the configuration."""
        raise NotImplementedError

    def reload(self) -> None:
        """Write the configuration anew and send SIGHUP."""
        self.prepare()
        self.send(signal.SIGHUP)


class NginxServer(Nginx):
    """A TLS server with HTTP/2 that answers `name` and a newline, "ok" at /readyz, and files from `dir`/files/."""

    def __init__(
        self, name: str, certs: Certs, host: str = "127.0.0.1", port: int = 0, ns: Namespace | None = None
    ) -> None:
        super().__init__(host, port, ns)
        self.name = name
        self._certs = certs

    def text(self) -> str:
        """Return the configuration of a web server."""
        return (_MAIN + _SERVER).format(
            dir=self.dir, workers=1, address=self.address, certs=self._certs, name=self.name
        )


class NginxProxy(Nginx):
    """kubespray's nginx-proxy in front of `servers` (`host:port`)."""

    def __init__(
        self, servers: Iterable[str], host: str = "127.0.0.1", port: int = 0,
        ns: Namespace | None = None, workers: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(host, port, ns)
        self.servers = list(servers)
        self._workers = workers

    def text(self) -> str:
        """Return the configuration of a stream proxy."""
        need("nginx-stream")
        lines = "\n        ".join(f"server {server};" for server in self.servers)
        return (_MAIN + _STREAM).format(
            dir=self.dir, workers=self._workers, address=self.address, module=STREAM_MODULE, servers=lines
        )
