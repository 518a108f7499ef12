"""Targets for what others have configured: nginx.conf and haproxy.cfg."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lbproxy.config.load import loads
from lbproxy.errors import LbproxyError
from lbproxy.importer.convert import PROGRAMS, convert, told
from tests.fuzz.target import Begin, Run, Target, always, chance

_ELSEWHERE = re.compile(rb"include[^;]*/")
"""What would read files of this machine, which are no input."""


def _import(program: str) -> Begin:
    @contextmanager
    def begin() -> Iterator[Run]:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "it.conf")

            def run(data: bytes) -> None:
                """What is imported can be loaded, says the same the next time, and can be shown."""
                if _ELSEWHERE.search(data):
                    return
                file.write_bytes(data)
                imported = convert(str(file), program)
                assert loads(imported.text, "imported").proxies
                assert imported.text.isascii()
                for problem in imported.left:
                    assert str(problem).isprintable()
                if chance(data, 16) == 0:
                    assert convert(str(file), program) == imported

            yield run

    return begin


def _told(data: bytes) -> None:
    """Any text is somebody's or nobody's."""
    assert told(data.decode(errors="replace")) in (*PROGRAMS, None)


_NGINX = b"""\
error_log stderr notice;
worker_processes 2;
events { multi_accept on; worker_connections 16384; }
stream {
  upstream kube { least_conn; server 10.4.6.11:6443 max_fails=2 fail_timeout=5s weight=3;
    server "[fd00::11]:6443" backup; }
  server { listen 127.0.0.1:6443; proxy_pass kube; proxy_timeout 10m; proxy_connect_timeout 1s; proxy_protocol on; }
}
http { server { listen 8081; location /healthz { return 200; } } } # end
"""
_HAPROXY = b"""\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 5s
    timeout client 15m
    option tcpka
frontend f
    bind 127.0.0.1:6443
    default_backend b
backend b
    balance leastconn
    option httpchk GET /healthz
    http-check expect status 200
    default-server inter 15s downinter 15s rise 2 fall 2 slowstart 60s maxconn 1000
    server m1 10.4.6.11:6443 check check-ssl verify none weight 2
    server "m 2" 10.4.6.12:6443 backup send-proxy-v2
listen s
    bind [::1]:7000,127.0.0.1:7001
    server x m.example:1 # 'quoted
"""
_NGINX_WORDS = (b"upstream ", b"server ", b"listen ", b"proxy_pass ", b"weight=", b";", b"{", b"}", b"[::]:1", b"unix:",
                b"10s", b"include a;", b"$", b"'", b'"', b"\\")  # fmt: skip
_HAPROXY_WORDS = (b"listen ", b"bind ", b"server ", b"backend ", b"use_backend ", b"timeout ", b"option ", b" check",
                  b"inter ", b"\\x41", b"'", b'"', b"$", b"10s", b"\n    ")  # fmt: skip

TARGETS = (
    Target("import-nginx", ("importer.nginx.file", "importer.source"), _import("nginx"), (_NGINX, b"stream {", b'a "'),
           (LbproxyError,), _NGINX_WORDS),
    Target("import-haproxy", ("importer.haproxy.file", "importer.source"), _import("haproxy"),
           (_HAPROXY, b"listen a '"),
           (LbproxyError,), _HAPROXY_WORDS),
    Target("import-told", ("importer.convert",), always(_told), (_NGINX, _HAPROXY, b"{;" * 20, b"listen"),
           words=(*_NGINX_WORDS, *_HAPROXY_WORDS)),
)  # fmt: skip
