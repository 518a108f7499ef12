"""The configurations that kubespray puts on a node, rendered for any masters; the same directives, in our own words.

roles/kubernetes/node/templates/loadbalancer/{nginx.conf,haproxy.cfg}.j2 of kubernetes-sigs/kubespray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

Stack = Literal["v4", "v6", "both"]


def masters(count: int, stack: Stack) -> list[str]:
    """Return the addresses of so many masters."""
    return [f"[fd00:4::{n}]:6443" if stack == "v6" else f"10.4.6.{10 + n}:6443" for n in range(1, count + 1)]


def nginx(servers: Sequence[str], stack: Stack = "v4", port: int = 6443, health: int = 8081) -> str:
    """Return nginx.conf; `stack` says on which loopback and wildcard addresses it listens."""
    loopback = _of(stack, f"    listen 127.0.0.1:{port};", f"    listen [::1]:{port};")
    probes = _of(stack, f"    listen {health};", f"    listen [::]:{health};")
    upstream = [f"    server {server};" for server in servers]
    return "\n".join(
        [
            "error_log stderr notice;", "worker_processes 2;", "worker_rlimit_nofile 130048;",
            "worker_shutdown_timeout 10s;",
            "events {", "  multi_accept on;", "  use epoll;", "  worker_connections 16384;", "}",
            "stream {",
            "  upstream kube_apiserver {", "    least_conn;", *upstream, "  }",
            "  server {", *loopback, "    proxy_pass kube_apiserver;", "    proxy_timeout 10m;",
            "    proxy_connect_timeout 1s;", "  }",
            "}",
            "http {", "  aio threads;", "  aio_write on;", "  tcp_nopush on;", "  tcp_nodelay on;",
            "  keepalive_timeout 5m;", "  keepalive_requests 100;", "  reset_timedout_connection on;",
            "  server_tokens off;", "  autoindex off;",
            "  server {", *probes,
            "    location /healthz {", "      access_log off;", "      return 200;", "    }",
            "    location /stub_status {", "      stub_status on;", "      access_log off;", "    }",
            "  }",
            "}", "",
        ]
    )  # fmt: skip


def haproxy(servers: Sequence[str], stack: Stack = "v4", port: int = 6443, health: int = 8081) -> str:
    """Return haproxy.cfg."""
    loopback = _of(stack, f"  bind 127.0.0.1:{port}", f"  bind [::1]:{port}")
    probes = _of(stack, f"  bind 0.0.0.0:{health}", f"  bind :::{health}")
    behind = [f"  server cp{n} {server} check check-ssl verify none" for n, server in enumerate(servers, 1)]
    return "\n".join(
        [
            "global", "  maxconn 4000", "  log 127.0.0.1 local0",
            "defaults", "  mode http", "  log global", "  option httplog", "  option dontlognull",
            "  option http-server-close", "  option redispatch", "  retries 5", "  timeout http-request 5m",
            "  timeout queue 5m", "  timeout connect 30s", "  timeout client 5m", "  timeout server 15m",
            "  timeout http-keep-alive 30s", "  timeout check 30s", "  maxconn 4000",
            "frontend healthz", *probes, "  mode http", "  monitor-uri /healthz",
            "frontend kube_api_frontend", *loopback, "  mode tcp", "  option tcplog",
            "  default_backend kube_api_backend",
            "backend kube_api_backend", "  mode tcp", "  balance leastconn",
            "  default-server inter 15s downinter 15s rise 2 fall 2 slowstart 60s maxconn 1000 maxqueue 256 weight 100",
            "  option httpchk GET /healthz", "  http-check expect status 200", *behind, "",
        ]
    )  # fmt: skip


def _of(stack: Stack, v4: str, v6: str) -> list[str]:
    return {"v4": [v4], "v6": [v6], "both": [v4, v6]}[stack]


RENDERERS: dict[str, Callable[..., str]] = {"nginx.conf": nginx, "haproxy.cfg": haproxy}
