"""The servers of a backend of HAProxy's, with the options that they have by themselves and by `default-server`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Draft, Keys, Origin, ProxyDraft, Value
from lbproxy.importer.haproxy.bind import address_of
from lbproxy.importer.units import haproxy_time, whole

_VALUED: Final = frozenset(
    ("addr", "agent-addr", "agent-inter", "agent-port", "agent-send", "alpn", "ca-file", "check-alpn", "check-proto",
     "check-sni", "ciphers", "ciphersuites", "cookie", "crl-file", "crt", "curves", "downinter", "error-limit", "fall",
     "fastinter", "guid", "hash-key", "id", "init-addr", "init-state", "inter", "log-bufsize", "log-proto",
     "max-reuse", "maxconn", "maxqueue", "minconn", "namespace", "npn", "observe", "on-error", "on-marked-down",
     "on-marked-up", "pool-low-conn", "pool-max-conn", "pool-purge-delay", "port", "proto", "proxy-v2-options",
     "redir", "resolve-net", "resolve-opts", "resolve-prefer", "resolvers", "rise", "shard", "slowstart", "sni",
     "socks4", "source", "ssl-max-ver", "ssl-min-ver", "tcp-ut", "track", "verify", "verifyhost", "weight", "ws")
)  # fmt: skip
"""The options with a word behind them; the others stand alone."""
_NEEDLESS: Final[Mapping[str, str]] = {
    "check-send-proxy": "checks send the header too",
    "enabled": "a server is, unless it is down",
    "fastinter": "checks are made more often by themselves while their answers change",
    "guid": "a server has a name",
    "id": "a server has a name",
    "init-addr": "a name that cannot be looked up is a server that is down, until it can",
    "maxqueue": "nobody waits in a queue: without a server that has room a client is closed",
    "pool-low-conn": "is about HTTP",
    "pool-max-conn": "is about HTTP",
    "pool-purge-delay": "is about HTTP",
    "verify": "the certificate is not verified, unless `health.verify` says so",
}
SHARED: Final[Mapping[str, str]] = {
    "check": "",
    "check-ssl": "",
    "check-sni": "",
    "inter": "2s",
    "rise": "2",
    "fall": "3",
    "send-proxy": "off",
    "slowstart": "0",
    "on-marked-down": "",
}
"""What lbproxy has for a whole proxy and HAProxy for each server, with HAProxy's default."""
_TIMES: Final = ("inter", "slowstart")


@dataclass(slots=True)
class Servers:
    """What the servers of a backend say of things that lbproxy has for all of them; None where one says nothing."""

    lines: list[Directive] = field(default_factory=list)
    shared: dict[str, list[Value | None]] = field(default_factory=lambda: {key: [] for key in SHARED})


@dataclass(frozen=True, slots=True)
class _Option:
    name: str
    value: str
    origin: Origin


def impossible_server(lines: Iterable[Directive]) -> str:
    """Return why lbproxy cannot reach servers as one of these lines says; empty if it can."""
    for line in lines:
        if any(option.name == "ssl" for option in _options(line)):
            return f"{line.name} ssl: to the servers goes what the client sends, and no TLS is put around it"
    return ""


def import_servers(lines: Iterable[Directive], defaults: Iterable[Directive], proxy: ProxyDraft) -> Servers:
    """Take the servers; what is said of their checks is returned, the rest is in `proxy`."""
    found = Servers()
    common = [option for line in defaults for option in _options(line)]
    used: set[int] = set()
    for line in lines:
        own = list(_options(line))
        effective = {option.name: option for option in (*common, *own)}
        for option in own:
            if effective[option.name] is not option:
                proxy.draft.needless(line, "is said again", option.origin.words)
        if _server(line, effective, proxy, found):
            used.update(map(id, effective.values()))
    for option in common:
        if id(option) not in used:
            proxy.draft.needless(option.origin.directive, "no server that is imported goes by it", option.origin.words)
    shared = found.shared
    proxy.keys.agree("proxy_protocol", shared["send-proxy"], SHARED["send-proxy"])
    proxy.keys.agree("slow_start", shared["slowstart"], SHARED["slowstart"])
    proxy.keys.agree("on_down", shared["on-marked-down"], SHARED["on-marked-down"])
    return found


def _options(line: Directive) -> Iterator[_Option]:
    """Yield the options of a `server` or `default-server`."""
    server = line.name == "server"
    label = f"server {line.arg}" if server else line.name
    words = iter(line.args[2:] if server else line.args)
    for word in words:
        value = next(words, "") if word in _VALUED else ""
        name = {"send-proxy-v2": "send-proxy"}.get(word, word)
        said = Origin(line, f"{label} {word} {value}".rstrip())
        yield _Option(name, "v2" if word == "send-proxy-v2" else "v1" if word == "send-proxy" else value, said)


def _server(line: Directive, options: dict[str, _Option], proxy: ProxyDraft, found: Servers) -> bool:
    """Take a server; tells whether it could be one."""
    text = line.args[1] if line.args[1:] else ""
    host, _, port = text.removeprefix("ipv4@").removeprefix("ipv6@").rpartition(":")
    server = proxy.serves(line.arg, address_of(host, port) if host else text, Origin(line, f"server {line.arg} {text}"))
    if server is None:
        for option in options.values():
            if option.origin.directive is line:
                proxy.draft.left(line, "belongs to a server that is left out", option.origin.words)
        return False
    found.lines.append(line)
    given: dict[str, Value | None] = dict.fromkeys(SHARED)
    for option in _in_force(options, proxy.draft):
        if option.name in SHARED:
            given[option.name] = _shared(option, proxy.draft)
        else:
            _own(option, options, server)
    for key, value in given.items():
        found.shared[key].append(value)
    return True


def _in_force(options: dict[str, _Option], draft: Draft) -> Iterator[_Option]:
    """Yield the options but for those that another one takes back."""
    for name, option in options.items():
        if f"no-{name}" in options or (name == "disabled" and "enabled" in options):
            draft.needless(option.origin.directive, "is taken back", option.origin.words)
        elif name.startswith("no-"):
            draft.needless(option.origin.directive, f"there is no {name[3:]}", option.origin.words)
        else:
            yield option


def _shared(option: _Option, draft: Draft) -> Value | None:
    if option.name == "on-marked-down":
        if option.value != "shutdown-sessions":
            draft.left(option.origin.directive, "has no counterpart", option.origin.words)
            return None
        return Value("close", [option.origin])
    return Value(haproxy_time(option.value) if option.name in _TIMES else option.value, [option.origin])


def _own(option: _Option, options: dict[str, _Option], server: Keys) -> None:
    """Take what lbproxy has for each server, too."""
    directive, words = option.origin.directive, option.origin.words
    if option.name == "weight" and whole(option.value) == "0":
        server.put("down", "true", option.origin)
    elif option.name == "weight":
        server.put("weight", whole(option.value), option.origin)
    elif option.name == "maxconn":
        server.put("max_conns", whole(option.value), option.origin)
    elif option.name == "backup":
        server.put("backup", "true", option.origin)
    elif option.name == "disabled":
        server.put("down", "true", option.origin)
    elif option.name == "downinter" and _same_time(option, options.get("inter")):
        server.draft.needless(directive, "a server that is down is checked as often as the others", words)
    elif option.name in _NEEDLESS and not (option.name == "verify" and option.value != "none"):
        server.draft.needless(directive, _NEEDLESS[option.name], words)
    else:
        server.draft.left(directive, "has no counterpart", words)


def _same_time(option: _Option, inter: _Option | None) -> bool:
    return inter is not None and haproxy_time(option.value) == haproxy_time(inter.value)
