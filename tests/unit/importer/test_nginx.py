"""What nginx's directives become."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lbproxy.config.model import Address
from lbproxy.errors import ConfigError, LbproxyError
from lbproxy.importer.convert import convert
from tests.unit.importer.files import config_of, imported, left, proxy_of, refused


def conf(server: str = "", upstream: str = "server 10.4.6.11:6443;", stream: str = "", main: str = "") -> str:
    """Return a file with one proxy; each part is on one line."""
    return (
        f"{main}\nstream {{\n{stream}\nupstream up {{\n{upstream}\n}}\n"
        f"server {{\nlisten 127.0.0.1:6443;\nproxy_pass up;\n{server}\n}}\n}}\n"
    )


@pytest.mark.parametrize(
    ("server", "key", "value"),
    [
        ("proxy_timeout 1h30m;", "idle_timeout", 5400),
        ("proxy_timeout 90;", "idle_timeout", 90),
        ("proxy_connect_timeout 500ms;", "connect_timeout", 0.5),
        ("proxy_connect_timeout 30s;", "connect_deadline", 30),
        ("proxy_connect_timeout 2s;", "connect_deadline", 3),
        ("proxy_connect_timeout 2s; proxy_next_upstream_timeout 20s;", "connect_deadline", 20),
        ("proxy_next_upstream_timeout 0;", "connect_deadline", 3),
        ("proxy_protocol on;", "proxy_protocol", "v1"),
        ("proxy_protocol off;", "proxy_protocol", "off"),
    ],
)
def test_a_setting_of_a_server_becomes_one_of_the_proxy(server: str, key: str, value: object) -> None:
    """In nginx's own notation of times."""
    assert getattr(proxy_of(conf(server)), key) == value


def test_a_setting_of_stream_is_for_all_servers_that_do_not_say_it_anew() -> None:
    """As nginx has it."""
    assert proxy_of(conf(stream="proxy_timeout 5m;")).idle_timeout == 300
    made, out = imported(conf("proxy_timeout 7m;", stream="proxy_timeout 5m;"))
    assert "idle_timeout: 7m  # f:10: proxy_timeout 7m" in made
    assert "# f:3: proxy_timeout 5m: is not in force for anything that is imported" in made
    assert out == []


def test_servers_keep_what_they_have_of_their_own() -> None:
    """Weight, limit, backup and down are of each server."""
    upstream = "server 10.4.6.11:1 weight=5 max_conns=20; server m.example:1 backup; server [fd00::1]:1 down;"
    first, second, third = proxy_of(conf(upstream=upstream)).servers
    assert (first.weight, first.max_conns, first.backup, first.down) == (5, 20, False, False)
    assert (second.address, second.backup) == (Address("m.example", 1), True)
    assert (third.address, third.down) == (Address("fd00::1", 1), True)


def test_what_is_one_for_all_servers_must_be_the_same_for_all() -> None:
    """What a server does not say is nginx's default."""
    both = "server 10.4.6.11:1 max_fails=3 fail_timeout=30s; server 10.4.6.12:1 max_fails=3 fail_timeout=30s;"
    proxy = proxy_of(conf(upstream=both))
    assert (proxy.max_fails, proxy.fail_timeout) == (3, 30)
    assert left(conf(upstream="server 10.4.6.11:1 max_fails=1; server 10.4.6.12:1;")) == []
    assert left(conf(upstream="server 10.4.6.11:1 max_fails=0; server 10.4.6.12:1;")) == [
        "f:5: server 10.4.6.11:1 max_fails=0: differs between servers, and max_fails is one for all of them"
    ]


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("6444", ["0.0.0.0:6444"]),
        ("*:6444", ["0.0.0.0:6444"]),
        ("[::]:6444", ["[::]:6444"]),
        ("[::]:6444 ipv6only=off", ["[::]:6444", "0.0.0.0:6444"]),
        ("localhost:6444", ["127.0.0.1:6444"]),
        ("[::1]:6444 reuseport so_keepalive=on backlog=100", ["[::1]:6444"]),
        ("127.0.0.1:6443", []),
    ],
)
def test_a_proxy_listens_where_nginx_does(listen: str, addresses: list[str]) -> None:
    """[::] is IPv6 alone in both; the first address is that of the file around it."""
    proxy = proxy_of(conf(f"listen {listen};"))
    assert list(map(str, proxy.listen)) == ["127.0.0.1:6443", *addresses]
    assert left(conf(f"listen {listen};")) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (conf("proxy_bind 10.0.0.1;"), "f:10: proxy_bind 10.0.0.1: has no counterpart"),
        (conf("proxy_next_upstream off;"), "f:10: proxy_next_upstream off: another server is always tried"),
        (conf("proxy_download_rate 1m;"), "f:10: proxy_download_rate 1m: has no counterpart"),
        (conf("allow 10.0.0.0/8;"), "f:10: allow 10.0.0.0/8: has no counterpart"),
        (conf("listen 1:2;"), "f:10: listen 1:2: the host looks like an IPv4 address and is none, got '1:2'"),
        (conf("listen [::1]:1 so_keepalive=30m::10;"),
         "f:10: listen [::1]:1 so_keepalive=30m::10: towards clients keepalive has its own times, see `keepalive`"),
        (conf(upstream="hash $remote_addr consistent; server 10.4.6.11:1;"),
         "f:5: hash $remote_addr consistent: the server with the fewest connections is chosen"),
        (conf(upstream="random two least_conn; server 10.4.6.11:1;"),
         "f:5: random two least_conn: the server with the fewest connections is chosen"),
        (conf(upstream="server 10.4.6.11:1; server 10.4.6.11:1;"),
         "f:5: server 10.4.6.11:1: 10.4.6.11:1 is there already, by f:5: server 10.4.6.11:1"),
        (conf(upstream="server 10.4.6.11:1 weight=2000;"),
         "f:5: server 10.4.6.11:1 weight=2000: weight: must be a whole number from 1 to 1000, got '2000'"),
        (conf(upstream="server unix:/x; server 10.4.6.11:1;"),
         "f:5: server unix:/x: address: the port must be a whole number from 1 to 65535, got 'unix:/x'"),
        (conf("proxy_timeout 40d;"),
         "f:10: proxy_timeout 40d: idle_timeout: must be 0 or a duration from 100ms to 720h, got '960h'"),
        (conf("proxy_connect_timeout 5s; proxy_next_upstream_timeout 3s;"),
         "f:10: proxy_next_upstream_timeout 3s: connect_deadline cannot be less than connect_timeout"),
        (conf(main="mail { }"), "f:1: mail: has no counterpart"),
        (conf(stream="resolver 10.0.0.10;"), "f:3: resolver 10.0.0.10: has no counterpart"),
        (conf(stream="upstream other { server a:1; }"),
         "f:3: upstream other: nothing that is imported leads to it"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line(text: str, why: str) -> None:
    """And the rest is imported all the same."""
    assert left(text)[0] == why


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("listen 1 ssl; proxy_pass up;", "listen ssl: TLS is passed through, and ends at the servers"),
        ("listen 1 udp; proxy_pass up;", "listen udp: lbproxy is for TCP"),
        ("listen 1 proxy_protocol; proxy_pass up;", "listen proxy_protocol: it takes no such header"),
        ("listen 1; proxy_pass $name;",
         "proxy_pass has a variable: which servers are behind it is not said in the file"),
        ("listen 1; proxy_pass unix:/x;", "proxy_pass leads to a unix socket"),
        ("listen 1; return hello;", "has no proxy_pass: lbproxy answers nothing by itself"),
        ("listen 1; proxy_pass up; proxy_ssl on;",
         "proxy_ssl: to the servers goes what the client sends, and no TLS is put around it"),
        ("listen 1; proxy_pass up; ssl_preread on;",
         "ssl_preread: bytes are not looked into, so they cannot choose a server"),
    ],
)  # fmt: skip
def test_a_server_that_lbproxy_cannot_stand_in_for_is_left_out_whole(server: str, why: str) -> None:
    """And the other one is not."""
    out = left(conf(stream=f"server {{ {server} }}"))
    assert out[0] == f"f:3: server: {why}"
    assert len(out) == 1 + server.count(";")
    assert all("belongs to server on line 3, which is left out" in line for line in out[1:])


def test_a_proxy_without_an_upstream_is_called_by_its_server() -> None:
    """proxy_pass may name an address; two proxies of one upstream have two names."""
    text = (
        "stream {\nserver { listen 1; proxy_pass 10.4.6.11:6443; }\nserver { listen 2; proxy_pass 10.4.6.11:6443; }\n}"
    )
    assert list(config_of(text).proxies) == ["10.4.6.11:6443", "10.4.6.11:6443-2"]


def test_the_log_is_that_of_the_process() -> None:
    """access_log is a line for every connection; there is one for all."""
    config = config_of(conf("access_log /var/log/a.log main;", main="error_log /var/log/e.log warn;"))
    assert (config.log.level, config.log.access) == ("warning", True)
    assert left(conf("access_log off;", stream="server { listen 1; proxy_pass 10.0.0.1:1; access_log /a; }")) == [
        "f:10: access_log off: access is true already, by f:3: access_log /a"
    ]


def test_the_server_for_probes_becomes_admin() -> None:
    """The other servers of http have no counterpart, and then neither has what is set for them."""
    probes = "server { listen 8081; location /healthz { return 200; } location /nginx { stub_status; } }"
    config = config_of(conf(main=f"http {{ {probes} }}"))
    assert config.admin is not None
    assert config.admin.listen == (Address("0.0.0.0", 8081),)
    assert left(conf(main=f"http {{ gzip on; {probes} }}")) == []
    web = "server { listen 80; root /srv; }"
    assert left(conf(main=f"http {{ gzip on; {web} {probes} }}")) == [
        "f:1: server: lbproxy serves no HTTP but `admin`",
        "f:1: listen 80: belongs to server on line 1, which is left out",
        "f:1: root /srv: belongs to server on line 1, which is left out",
        "f:1: gzip on: lbproxy serves no HTTP but `admin`",
    ]


def test_what_admin_does_not_do_is_named() -> None:
    """Who may ask it, and another path."""
    probes = "server { listen 8081; allow 10.0.0.0/8; location /up { return 200; } location / { return 200; } }"
    assert left(conf(main=f"http {{ {probes} }}")) == [
        "f:1: allow 10.0.0.0/8: `admin` answers everybody who reaches its address",
        "f:1: location /up: `admin` answers /healthz, /livez and /readyz",
        "f:1: return 200: belongs to location /up on line 1, which is left out",
    ]


def test_includes_stand_where_they_are_included(tmp_path: Path) -> None:
    """By a name or a pattern, relative to the main file; each directive keeps its own place."""
    main = tmp_path / "nginx.conf"
    main.write_text("stream {\n include streams/*.conf;\n include servers.inc;\n}\n")
    (tmp_path / "servers.inc").write_text("upstream up { server 10.4.6.11:6443; }\n")
    (tmp_path / "streams").mkdir()
    (tmp_path / "streams" / "a.conf").write_text("server {\n listen 6443;\n proxy_pass up;\n}\n")
    found = convert(str(main), None)
    assert found.left == []
    assert f"# {tmp_path}/streams/a.conf:2: listen 6443" in found.text
    assert f"# {main}:2: include streams/*.conf: what is in there follows with its own place" in found.text


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"f": "include f;"}, "f:1: include: {d}/f includes itself"),
        ({"f": "include a;", "a": "include b;", "b": "\ninclude a;"}, "b:2: include: {d}/a includes itself"),
        ({"f": "\ninclude none;"}, "f:2: include: {d}/none: cannot be read: No such file or directory"),
        ({"f": "include /dev/zero;"}, "f:1: include: /dev/zero: cannot be read: not a regular file"),
        ({"f": "include a;", "a": "x {"}, 'a:1: unexpected end of file, expecting "}}"'),
        ({"f": "include a; " * 200, "a": "x;"}, "f:1: include: more than 100 files"),
    ],
)
def test_an_include_that_cannot_be_followed_is_refused(tmp_path: Path, files: dict[str, str], why: str) -> None:
    """A loop, a file that is not there, a device without an end, too many of them."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        convert(str(tmp_path / "f"), "nginx")
    assert str(caught.value) == f"{tmp_path}/{why.format(d=tmp_path)}"


def test_without_crossplane_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only nginx.conf takes it."""
    monkeypatch.setitem(sys.modules, "crossplane", None)
    with pytest.raises(LbproxyError, match=r"^to read nginx.conf takes crossplane: pip install 'lbproxy\[import\]'$"):
        imported(conf())


def test_no_proxy_is_an_error_that_says_what_there_was() -> None:
    """Not an empty file."""
    assert refused("http {\nserver { listen 80; root /srv; }\n}\n")[-1] == (
        "f: has nothing that could be a proxy here, read as nginx's"
    )
    only = "stream {\nserver { listen unix:/x; proxy_pass 10.0.0.1:1; }\n}\n"
    assert refused(only)[0].startswith("f:2: listen unix:/x: the port must be")
