"""Targets for files: configurations, lists of servers, kubeconfigs, what was found before, resolv.conf."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lbproxy.config.diff import diff
from lbproxy.config.load import control_of, loads, read_file
from lbproxy.config.model import ServersFrom
from lbproxy.config.report import MOST
from lbproxy.errors import ConfigError, LbproxyError
from lbproxy.sources import found, kept, kubeconfig
from lbproxy.sources.dns import name_servers
from lbproxy.sources.files import read
from tests.fuzz.target import Run, Target, always, file

ROOT = Path(__file__).parents[2]
_BASE = """\
proxies:
  api:
    listen: 127.0.0.1:6443
    servers:
      - 10.4.6.11:6443
"""
_MANY = _BASE + """\
      - {address: "[fd00::11]:6443", name: m2, weight: 3, backup: true}
    connect_timeout: 250ms
    health: {type: https, path: /readyz, verify: false, interval: 1.5s}
    servers_from: {dns: _https._tcp.api.example, file: /etc/x/*.yaml}
control: /run/lbproxy.sock
admin: {listen: 127.0.0.1:9100}
log: {level: info, format: json}
"""  # fmt: skip
_YAML_WORDS = (b"proxies:", b"servers:", b"  - ", b"listen: ", b"127.0.0.1:1", b"control: ", b"{", b"}", b": ", b"&a ",
               b"*a", b"!!str ", b"<<: ", b"---\n", b"\"\\U0010FFFF\"", b"|\n ", b"null")  # fmt: skip


@contextmanager
def _config() -> Iterator[Run]:
    """Each file is a configuration, or problems that can be shown; what is said of `control` is what a daemon has."""
    with file() as it:

        def run(data: bytes) -> None:
            path = it.holding(data)
            config = read_file(path, lambda _: ()).config
            control = control_of(path)
            if isinstance(config, ConfigError):
                _presentable(config, data)
            else:
                assert control == config.control
                assert loads(data.decode(), path) == config
                assert diff(config, config).lines() == ["no change"]

        yield run


def _presentable(error: ConfigError, data: bytes) -> None:
    assert 1 <= len(error.problems) <= MOST + 1
    lines = len(data.decode(errors="replace").splitlines()) + 1
    for problem in error.problems:
        assert 0 <= problem.line <= lines
        assert problem.why.isprintable()
        assert problem.path.isprintable()


@contextmanager
def _servers() -> Iterator[Run]:
    """What a file names stands behind what the configuration names, each address once, and not too many."""
    base = loads(_BASE, "base")
    proxy = base.proxies["api"]
    with file() as it:
        origin = found.Origin("api", "file", it.path)
        config = replace(base, proxies={"api": replace(proxy, servers_from=ServersFrom(file=it.path))})

        def run(data: bytes) -> None:
            named = found.accepted(read(it.holding(data)), "file", set())
            whole, _ = found.merged(config, {origin: named})
            servers = whole.proxies["api"].servers
            assert servers[:1] == proxy.servers
            assert len({server.address for server in servers}) == len(servers) <= 1 + found.MOST

        yield run


@contextmanager
def _kubeconfig() -> Iterator[Run]:
    """What may stand in a request's head has nothing in it that would end the line."""
    names = {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": "/nowhere"}  # what the machine trusts takes long to read
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    with file() as it:

        def run(data: bytes) -> None:
            asks = kubeconfig.read(it.holding(data))
            assert asks.name
            assert asks.token.isascii()
            assert asks.token.isprintable()

        yield run
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@contextmanager
def _kept() -> Iterator[Run]:
    """What can be read can be written, and is the same then."""
    with file() as it, tempfile.TemporaryDirectory() as directory:
        copy = f"{directory}/kept"

        def run(data: bytes) -> None:
            before = kept.read(it.holding(data))
            kept.write(copy, before)
            assert kept.read(copy) == {
                origin: each._replace(at=float(round(each.at))) for origin, each in before.items()
            }

        yield run


def _resolv(data: bytes) -> None:
    """There are one to three name servers, whatever the file says."""
    assert 1 <= len(name_servers(data.decode(errors="replace"))) <= 3


_KUBECONFIG = b"""\
apiVersion: v1
kind: Config
current-context: a
contexts:
- {name: a, context: {cluster: c, user: u}}
clusters:
- name: c
  cluster: {server: "https://10.4.6.11:6443", insecure-skip-tls-verify: true}
users:
- {name: u, user: {token: abc}}
"""
_CA = _KUBECONFIG.replace(b"insecure-skip-tls-verify: true", b"certificate-authority-data: YQ==")
_CERT = _KUBECONFIG.replace(b"token: abc", b"client-certificate-data: YQ==, client-key-data: YQ==")
_FOUND = b"""[{"proxy": "api", "kind": "dns", "where": "m.example:6443", "at": 1700000000, "servers": [
{"address": "10.4.6.11:6443", "name": "", "weight": 1, "backup": false}], "good": ["10.4.6.11:6443"]}]"""
_JSON_WORDS = (b'"proxy"', b'"kind"', b'"where"', b'"at"', b'"servers"', b'"good"', b'"address"', b"1e999", b"NaN",
               b"10.4.6.12:1", b"null", b"[[[[[[[[", b"9" * 400, b"true", b"-1")  # fmt: skip

TARGETS = (
    Target(
        "config",
        ("config.load", "config.nodes", "config.scalars", "config.address", "config.rules", "config.report"),
        _config,
        (_BASE.encode(), _MANY.encode(), b"\xef\xbb\xbfa: b", b"a: 1\n" * 103, b"a: &x [*x]", b"{a: !t b}", b"\xff"),
        words=_YAML_WORDS,
    ),
    Target(
        "servers-file",
        ("sources.files", "config.load", "sources.found"),
        _servers,
        (b"- 10.4.6.12:6443\n- m3.example:6443\n", b"- {address: 10.4.6.11:6443, weight: 7, name: x}\n", b""),
        (OSError, LbproxyError, ValueError),
        words=_YAML_WORDS,
    ),
    Target("kubeconfig", ("sources.kubeconfig",), _kubeconfig, (_KUBECONFIG, _CA, _CERT, b"a: 1\n" * 103),
           (LbproxyError,),
           words=(*_YAML_WORDS, b"https://", b"[::1]", b"tls-server-name: ", b"exec: ", b"@")),
    Target("kept", ("sources.kept",), _kept, (_FOUND, b"[]", b"{}"), (LbproxyError,), words=_JSON_WORDS),
    Target("resolv", ("sources.dns",), always(_resolv), (b"nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a\n",),
           words=(b"nameserver ", b"%", b"\n")),
)  # fmt: skip
