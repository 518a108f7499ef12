"""Files of both grammars: directives that mean something, that mean nothing, and that are wrong."""

from __future__ import annotations

from hypothesis import strategies as st

times = st.sampled_from(["5s", "10m", "1h30m", "0", "250", "15000", "400d", "x", "-1", "99999999999999999"])
numbers = st.sampled_from(["0", "1", "2", "007", "100", "5000", "-3", "many", "99999999999999999999"])
flags = st.sampled_from(["on", "off", "off"])
hosts = st.sampled_from(["10.4.6.11", "10.4.6.12", "10.4.6.13", "[fd00::11]", "[fd00::12]", "m1.example", "-", "a_b"])
ports = st.sampled_from(["6443", "6444", "6445", "443", "70000", "06443"])
odd = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)
names = st.sampled_from(["kube", "api", "k8s-masters", "x.y", "__", "null", "\u00fcber", "a" * 90, "~"])
addresses = (
    st.builds("{}:{}".format, hosts, ports)
    | st.builds("{}:{}".format, hosts, ports)
    | st.sampled_from(["unix:/run/x.sock", "10.4.6.13", "$up:1"])
)


def _line(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(each) if isinstance(each, str) else each for each in parts)).map(" ".join)


def _words(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.one_of(*parts), max_size=5).map(" ".join)


def _said(name: str, value: st.SearchStrategy[str], between: str = "=") -> st.SearchStrategy[str]:
    return value.map(lambda text: f"{name}{between}{text}")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "").replace("'", "") + "'"


listens = st.sampled_from(
    ["127.0.0.1:6443", "[::1]:6443", "6443", "*:7443", "[::]:6443", "localhost:6443", "name:1", "0.0.0.0:8443"]
)
strangers = _line(st.sampled_from(["foo", "zip", "bar.baz", "option", "sets"]), odd.map(_quoted))
anything = odd.map(_quoted).filter(lambda text: len(text) > 2)

nginx_server = _line(
    "server",
    addresses,
    _words(
        _said("weight", numbers), _said("max_conns", numbers), _said("max_fails", numbers),
        _said("fail_timeout", times),
        st.sampled_from(["backup", "down", "resolve", "slow_start=5s", "service=http", "bogus"]),
    ),
)  # fmt: skip
nginx_upstream = nginx_server | st.sampled_from(
    ["least_conn", "random two", "hash $remote_addr consistent", "zone up 64k", "resolver 10.0.0.10 valid=5s"]
)
nginx_settings = st.one_of(
    _line("proxy_timeout", times), _line("proxy_connect_timeout", times), _line("proxy_next_upstream", flags),
    _line("proxy_next_upstream_timeout", times), _line("proxy_protocol", flags), _line("proxy_ssl", flags),
    _line("ssl_preread", flags), _line("proxy_bind", hosts), _line("tcp_nodelay", flags),
    _line("access_log", st.sampled_from(["off", "/var/log/nginx/a.log", "/a.log main", "/b.log main if=$x"])),
    _line("proxy_buffer_size", st.sampled_from(["16k", "1m"])), _line("error_log", st.sampled_from(["stderr", "/e"])),
    strangers,
)  # fmt: skip
nginx_listen = _line(
    "listen",
    listens,
    _words(st.sampled_from(["reuseport", "so_keepalive=on", "so_keepalive=30m::10", "backlog=5", "ipv6only=off", "bind",
                            "udp", "ssl", "proxy_protocol", "rcvbuf=1k"])),
)  # fmt: skip
nginx_main = st.one_of(
    _line("worker_processes", numbers | st.just("auto")), _line("worker_shutdown_timeout", times),
    _line("error_log", st.sampled_from(["stderr", "/var/log/e"]), st.sampled_from(["notice", "warn", "emerg", "x"])),
    _line("user", names), _line("worker_rlimit_nofile", numbers), _line("env", names), strangers,
)  # fmt: skip
nginx_http = st.sampled_from(["tcp_nopush on", "keepalive_timeout 5m", "gzip on", "access_log off", "include_me x"])


@st.composite
def nginx_files(draw: st.DrawFn) -> str:
    """Draw an nginx.conf, a directive a line."""
    upstreams = draw(st.lists(names, max_size=3, unique=True))
    lines = _ended(draw, nginx_main, 3)
    stream: list[str] = _ended(draw, nginx_settings, 3)
    for name in upstreams:
        stream += [f"upstream {name} {{", "server good.example:6443;", *_ended(draw, nginx_upstream, 4), "}"]
    for n in range(draw(st.integers(1, 3))):
        target = draw(st.sampled_from([*upstreams, "10.4.6.14:6443", "10.4.6.14:6443", "$backend"]))
        inner = [f"listen 127.0.0.1:600{n};", *_ended(draw, nginx_settings, 4), f"proxy_pass {target};"]
        inner += _ended(draw, nginx_listen, 1)
        stream += ["server {", *draw(st.permutations(inner)), "}"]
    if draw(st.booleans()):
        stream += ["map $remote_addr $backend {", "default kube;", "}"]
    http = _ended(draw, nginx_http, 3)
    if draw(st.booleans()):
        path = draw(st.sampled_from(["/healthz", "/x"]))
        does = draw(st.sampled_from(["return 200", "proxy_pass http://a"]))
        http += [
            "server {",
            f"listen {draw(st.sampled_from(['8081', '[::]:8081']))};",
            f"location {path} {{",
            f"{does};",
            "}",
            "}",
        ]
    blocks = [["events {", "multi_accept on;", "}"], ["stream {", *stream, "}"], ["http {", *http, "}"]]
    for block in draw(st.permutations(blocks)):
        lines += block
    return "\n".join(lines) + "\n"


def _ended(draw: st.DrawFn, directive: st.SearchStrategy[str], most: int, least: int = 0) -> list[str]:
    return [f"{each};" for each in draw(st.lists(directive, min_size=least, max_size=most))]


haproxy_options = _words(
    st.sampled_from(["check", "backup", "disabled", "check-ssl", "send-proxy", "send-proxy-v2", "no-check", "bogus",
                     "enabled", "on-marked-down shutdown-sessions", "verify none", "verify required"]),
    _said("inter", times, " "), _said("rise", numbers, " "), _said("fall", numbers, " "), _said("weight", numbers, " "),
    _said("slowstart", times, " "), _said("maxconn", numbers, " "), _said("downinter", times, " "),
    _said("check-sni", names, " "), _said("maxqueue", numbers, " "), _said("resolvers", names, " "),
)  # fmt: skip
haproxy_server = _line("server", names, addresses, haproxy_options)
haproxy_back = st.one_of(
    haproxy_server, haproxy_server, _line("default-server", haproxy_options),
    _line("balance", st.sampled_from(["leastconn", "roundrobin", "source", "uri depth 3"])),
    _line("timeout", st.sampled_from(["connect", "server", "check", "tunnel", "queue", "server-fin"]), times),
    _line("option", st.sampled_from(["httpchk", "httpchk /a", "httpchk GET /b", "httpchk HEAD /c HTTP/1.0",
                                     "tcp-check", "ssl-hello-chk", "redispatch", "mysql-check", "httpchk GET nopath"])),
    _line("http-check", st.sampled_from(["expect status 200", "expect string ok", "connect ssl", "connect port 9",
                                         "send meth GET uri /d ver HTTP/1.1 hdr Host x", "disable-on-404"])),
    st.sampled_from(["server-template m 1-3 m.example:6443 check", "stick-table type ip size 1m", "retries 3",
                     'server env "${M1}:6443" check', "srvtcpka-idle 30s", "srvtcpka-cnt 3", "no option redispatch"]),
    strangers,
)  # fmt: skip
haproxy_front = st.one_of(
    _line("bind", st.sampled_from(["127.0.0.1:6443", "*:7443", ":::8443", "[::1]:6443,[::1]:6444", ":9443", "/x.sock",
                                   "ipv4@127.0.0.1:5443", "[::]:6443 v6only", "127.0.0.1:1-5", "10.0.0.1"]),
          _words(st.sampled_from(["name x", "tfo", "interface eth0", "v4v6", "accept-proxy", "backlog 7"]))),
    _line("maxconn", numbers), _line("timeout client", times), st.sampled_from(["log global", "log 10.0.0.1 local0"]),
    st.sampled_from(["option tcplog", "acl x src 10.0.0.0/8", "use_backend api if x", "option dontlog-normal",
                     "tcp-request inspect-delay 5s"]),
    strangers,
)  # fmt: skip
haproxy_global = st.one_of(
    _line("maxconn", numbers), _line("hard-stop-after", times), strangers,
    st.sampled_from(["daemon", "log 127.0.0.1 local0", "log stdout format raw local0 notice", "nbthread 4", "chroot /x",
                     "stats socket /run/h.sock", "tune.bufsize 32768"]),
)  # fmt: skip


@st.composite
def haproxy_files(draw: st.DrawFn) -> str:
    """Draw a haproxy.cfg, a directive a line."""
    mode = st.sampled_from(["mode tcp", "mode tcp", "mode tcp", "mode tcp", "mode http"])
    backends = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    lines = ["global", *draw(st.lists(haproxy_global, max_size=3))]
    for _ in range(draw(st.integers(0, 2))):
        inherited = haproxy_back.filter(lambda line: not line.startswith("server"))
        lines += ["defaults", draw(mode), *draw(st.lists(inherited | _line("timeout client", times), max_size=4))]
    for n in range(draw(st.integers(1, 2))):
        target = draw(st.sampled_from([*backends, *backends, "nowhere"]))
        front = [draw(mode), *draw(st.lists(haproxy_front, max_size=4)), f"default_backend {target}"]
        lines += [f"frontend front{n}", *draw(st.permutations([f"bind 127.0.0.1:500{n}", *front]))]
    for name in backends:
        back = ["server good good.example:6443 check", draw(mode), *draw(st.lists(haproxy_back, max_size=6))]
        lines += [f"backend {name}", *draw(st.permutations(back))]
    if draw(st.booleans()):
        listen = [*draw(st.lists(haproxy_front, max_size=2)), *draw(st.lists(haproxy_back, max_size=3))]
        lines += ["listen both", "mode tcp", *listen]
    lines += draw(st.sampled_from([[], ["frontend probes", "mode http", "bind *:8081", "monitor-uri /healthz"],
                                   ["resolvers dns", "nameserver a 10.0.0.10:53"]]))  # fmt: skip
    return "\n".join(lines) + "\n"
