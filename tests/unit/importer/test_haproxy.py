"""What HAProxy's lines become."""

from __future__ import annotations

import pytest

from lbproxy.config.model import Address
from tests.unit.importer.files import config_of, imported, left, proxy_of


def cfg(back: str = "", front: str = "", defaults: str = "", server: str = "server m1 10.4.6.11:6443") -> str:
    """Return a file with one proxy; each part may have several lines."""
    return (
        f"global\n daemon\ndefaults\n mode tcp\n{defaults}\n"
        f"frontend in\n bind 127.0.0.1:6443\n{front}\n default_backend out\nbackend out\n{server}\n{back}\n"
    )


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ({"back": "timeout connect 500"}, "connect_timeout", 0.5),
        ({"defaults": "timeout connect 30s"}, "connect_deadline", 30),
        ({"defaults": "timeout client 15m\ntimeout server 15m"}, "idle_timeout", 900),
        ({"front": "timeout client 5m", "back": "timeout server 15m"}, "idle_timeout", 300),
        ({"front": "timeout client 5m", "back": "timeout tunnel 1h"}, "idle_timeout", 3600),
        ({"front": "timeout client 0", "back": "timeout server 1m"}, "idle_timeout", 60),
        ({"front": "maxconn 100"}, "max_connections", 100),
        ({"front": "maxconn 100\n", "defaults": "maxconn 50"}, "max_connections", 100),
        ({"back": "default-server slowstart 60s"}, "slow_start", 60),
        ({"back": "default-server send-proxy"}, "proxy_protocol", "v1"),
        ({"server": "server m1 10.4.6.11:6443 send-proxy-v2"}, "proxy_protocol", "v2"),
        ({"server": "server m1 10.4.6.11:6443 check on-marked-down shutdown-sessions"}, "on_down", "close"),
        ({"back": "balance leastconn"}, "balance", "least_conn"),
    ],
)
def test_a_line_becomes_a_key(lines: dict[str, str], key: str, value: object) -> None:
    """In HAProxy's own notation of times; of two limits the lower one counts."""
    assert getattr(proxy_of(cfg(**lines)), key) == value
    assert left(cfg(**lines)) == []


def test_the_limit_of_the_process_counts_where_it_is_lower() -> None:
    """HAProxy has both at once."""
    text = cfg(front="maxconn 5000").replace("daemon", "maxconn 4000")
    assert proxy_of(text).max_connections == 4000
    assert "maxconn 5000: max_connections is the least of what holds, 4000" in imported(text)[0]


def test_servers_have_their_own_options_over_the_common_ones() -> None:
    """A weight of 0 is a server that gets nothing, as `disabled` is."""
    servers = (
        "server a 10.0.0.1:1 weight 10\nserver b [fd00::1]:1 backup\nserver c fd00::2:1 disabled\n"
        "server d d.example:1 weight 0\nserver e ipv4@10.0.0.5:1 enabled"
    )
    text = cfg(server=servers, back="default-server weight 100 maxconn 1000")
    found = {each.name: each for each in proxy_of(text).servers}
    assert [found[name].weight for name in "abc"] == [10, 100, 100]
    assert {each.max_conns for each in found.values()} == {1000}
    assert [found[name].down for name in "abcde"] == [False, False, True, True, False]
    assert (found["b"].backup, found["c"].address) == (True, Address("fd00::2", 1))
    assert left(text) == []


def test_common_options_add_up_and_one_that_nobody_has_is_noted() -> None:
    """Those of the defaults, those of the backend, and those of each server, the last of which counts."""
    text = cfg(
        server="server a 10.0.0.1:1 weight 5", defaults="default-server maxconn 7", back="default-server weight 9"
    )
    (server,) = proxy_of(text).servers
    assert (server.weight, server.max_conns) == (5, 7)
    assert "default-server weight 9: no server that is imported goes by it" in imported(text)[0]


@pytest.mark.parametrize(
    ("bind", "addresses"),
    [
        ("*:7443", ["0.0.0.0:7443"]),
        (":7443", ["0.0.0.0:7443"]),
        ("[::1]:7443,127.0.0.1:7444", ["[::1]:7443", "127.0.0.1:7444"]),
        ("::1:7443", ["[::1]:7443"]),
        (":::7443", ["[::]:7443", "0.0.0.0:7443"]),
        ("[::]:7443 v6only", ["[::]:7443"]),
        ("ipv6@::1:7443 name x tfo", ["[::1]:7443"]),
        ("ipv4@:7443", ["0.0.0.0:7443"]),
    ],
)
def test_a_proxy_listens_where_haproxy_does(bind: str, addresses: list[str]) -> None:
    """All addresses of IPv6 are those of IPv4 too, unless it says v6only."""
    proxy = proxy_of(cfg(front=f" bind {bind}"))
    assert list(map(str, proxy.listen)) == ["127.0.0.1:6443", *addresses]
    assert left(cfg(front=f" bind {bind}")) == []


@pytest.mark.parametrize(
    ("lines", "health"),
    [
        ({"server": "server m 10.0.0.1:1 check"}, ("tcp", "/readyz")),
        ({"server": "server m 10.0.0.1:1 check", "back": "tcp-check connect ssl"}, ("tls", "/readyz")),
        ({"server": "server m 10.0.0.1:1 check", "back": "option ssl-hello-chk"}, ("tls", "/readyz")),
        ({"server": "server m 10.0.0.1:1 check", "back": "option httpchk /up"}, ("http", "/up")),
        ({"server": "server m 10.0.0.1:1 check", "back": "option httpchk"}, ("http", "/")),
        ({"server": "server m 10.0.0.1:1 check check-ssl verify none", "defaults": "option httpchk GET /healthz"},
         ("https", "/healthz")),
        ({"server": "server m 10.0.0.1:1 check", "back": "option httpchk\nhttp-check connect ssl\n"
          "http-check send meth GET uri /livez\nhttp-check expect status 200"}, ("https", "/livez")),
    ],
)  # fmt: skip
def test_a_check_goes_as_far_as_haproxys(lines: dict[str, str], health: tuple[str, str]) -> None:
    """To a connection, TLS, or an answer; with TLS if the server or the check says so."""
    found = proxy_of(cfg(**lines)).health
    assert found is not None
    assert (found.type, found.path) == health
    assert left(cfg(**lines)) == []


def test_the_pace_of_the_checks_is_kept() -> None:
    """inter, rise, fall, the timeout and the name asked for."""
    lines = "timeout check 3s\ndefault-server inter 1500 fastinter 500 downinter 1500 rise 3 fall 4 check-sni kube"
    found = proxy_of(cfg(back=lines, server="server m 10.0.0.1:1 check check-ssl")).health
    assert found is not None
    assert (found.interval, found.timeout, found.rise, found.fall, found.server_name) == (1.5, 3, 3, 4, "kube")


def test_without_check_there_are_none() -> None:
    """What is said of their pace means nothing then."""
    made, out = imported(cfg(back="option httpchk\ndefault-server inter 5s"))
    assert (out, "health" in made) == ([], False)
    assert "default-server inter 5s: no server has `check`" in made


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ({"front": "acl x src 10.0.0.0/8"}, "8: acl x src 10.0.0.0/8: connections are not told apart"),
        ({"front": "use_backend y"}, "8: use_backend y: all connections of a frontend go to its default_backend"),
        ({"front": "tcp-request inspect-delay 5s"}, "8: tcp-request inspect-delay 5s: has no counterpart"),
        ({"front": "bind :9443 interface eth0"}, "8: bind :9443 interface eth0: has no counterpart"),
        ({"front": "bind /run/x.sock"}, "8: bind /run/x.sock: must be IP:PORT, such as "),
        ({"front": 'bind ":$PORT"'}, "8: bind :$PORT: has an environment variable: put its value in its place"),
        ({"back": "balance source"}, "12: balance source: the server with the fewest connections is chosen"),
        ({"back": "server-template t 1-3 t.example:1"}, "12: server-template t 1-3 t.example:1: write its servers "),
        ({"back": "option mysql-check user x"}, "12: option mysql-check user x: has no counterpart"),
        ({"back": "timeout server-fin 5s"}, "12: timeout server-fin 5s: has no counterpart"),
        ({"server": "server m 10.0.0.1:1 check downinter 9s"}, "11: server m downinter 9s: has no counterpart"),
        ({"server": "server m 10.0.0.1:1 verify required"}, "11: server m verify required: has no counterpart"),
        ({"server": "server m 10.0.0.1:1 check\nserver n 10.0.0.2:1"}, "12: server n: has no `check`, and all "),
        ({"server": "server m 10.0.0.1:1 slowstart 1s\nserver n 10.0.0.2:1"}, "11: server m slowstart 1s: differs "),
        ({"server": "server m 10.0.0.1\nserver n 10.0.0.2:1"}, "11: server m 10.0.0.1: address: must be HOST:PORT, "),
        ({"back": "option httpchk HEAD /x", "server": "server m 10.0.0.1:1 check"},
         "12: option httpchk HEAD /x: a check asks by GET, in HTTP/1.1"),
        ({"back": "http-check expect string ok", "server": "server m 10.0.0.1:1 check"},
         "12: http-check expect string ok: has no counterpart"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line(lines: dict[str, str], why: str) -> None:
    """And the rest is imported all the same."""
    assert any(line.startswith(f"f:{why}") for line in left(cfg(**lines)))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("frontend x\n bind :1\n mode http\n default_backend out", "frontend x: mode http: lbproxy is for TCP"),
        (
            "frontend x\n bind :1 ssl crt /x\n default_backend out",
            "frontend x: bind ssl: TLS is passed through, and ends at the servers",
        ),
        (
            "frontend x\n bind :1 accept-proxy\n default_backend out",
            "frontend x: bind accept-proxy: it takes no such header",
        ),
        ("frontend x\n bind :1\n default_backend none", "frontend x: there is no backend none"),
        ("frontend x\n bind :1", "frontend x: has no default_backend"),
        (
            "listen x\n bind :1\n server a 10.0.0.1:1 ssl",
            "listen x: server ssl: to the servers goes what the client sends, and no TLS is put around it",
        ),
        ("backend x\n server a 10.0.0.1:1", "backend x: no frontend that is imported leads to it"),
        ("resolvers x\n nameserver a 10.0.0.1:53", "resolvers x: has no counterpart"),
        ("listen x\n disabled\n bind :1\n server a 10.0.0.1:1", "listen x: is disabled"),
        ("listen x\n bind :1", "listen x: is for x, of which no server could be imported"),
    ],
)
def test_a_section_that_lbproxy_cannot_stand_in_for_is_left_out_whole(section: str, why: str) -> None:
    """And the other ones are not."""
    out = left(cfg() + section + "\n")
    assert f"f:13: {why}" in out
    assert {int(line.split(":")[1]) for line in out} == set(range(13, 14 + section.count("\n")))


def test_named_defaults_are_for_those_that_ask_for_them() -> None:
    """Without `from` the last ones count."""
    text = """defaults one
 mode tcp
 timeout client 1m
defaults two from one
 timeout server 2m
 timeout client 2m
listen a from one
 bind :1
 server a 10.0.0.1:1
listen b
 bind :2
 server a 10.0.0.1:1
"""
    proxies = config_of(text).proxies
    assert (proxies["a"].idle_timeout, proxies["b"].idle_timeout) == (60, 120)
    assert left(text) == []


def test_a_log_is_a_line_for_every_connection_where_a_target_takes_it() -> None:
    """Unless it takes only what is worse, or says dontlog-normal."""
    text = cfg(front="log global\noption tcplog").replace("daemon", "log stdout format raw local0")
    assert config_of(text).log.access is True
    assert config_of(text.replace("local0", "local0 notice")).log.access is False
    assert config_of(text.replace("option tcplog", "option dontlog-normal")).log.access is False


def test_what_shows_probes_and_counts_becomes_admin() -> None:
    """A password it does not know."""
    stats = "listen stats\n mode http\n bind :8404\n stats enable\n stats uri /\n stats auth a:b\n"
    config = config_of(cfg() + stats)
    assert config.admin is not None
    assert config.admin.listen == (Address("0.0.0.0", 8404),)
    assert left(cfg() + stats) == ["f:18: stats auth a:b: `admin` knows no password, and changes nothing"]


def test_quotes_and_escapes_are_haproxys() -> None:
    """Words may be glued of quoted parts; a comment begins at an unescaped #."""
    text = cfg(server="server 'm'\"1\" 10.4.6.11\\:6443 # weight 7").replace(
        "default_backend out", 'default_backend "o"ut'
    )
    (server,) = proxy_of(text).servers
    assert (server.name, str(server.address), server.weight) == ("m1", "10.4.6.11:6443", 1)
    assert left(cfg(front="log-format 'a b'\nfoo\\ bar \\x41\\n")) == ["f:9: foo bar A\\n: has no counterpart"]
