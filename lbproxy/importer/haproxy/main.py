"""haproxy.cfg as proxies: each frontend of mode tcp with the backend that it leads to, and each `listen`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import OPEN, Draft, Origin, ProxyDraft
from lbproxy.importer.haproxy.bind import binds, impossible_bind, listen
from lbproxy.importer.haproxy.check import CHECKS, import_checks
from lbproxy.importer.haproxy.needless import NEEDLESS
from lbproxy.importer.haproxy.scope import Scope, key_of, scopes
from lbproxy.importer.haproxy.server import import_servers, impossible_server
from lbproxy.importer.units import haproxy_time, whole

_HTTP: Final = ("default_backend", "server", "server-template", "use_backend")
"""What a frontend of mode http has that serves somebody."""
_PROBES: Final = ("/healthz", "/livez", "/readyz", "/")
_STDERR: Final = "the log goes to stderr, which is the journal's"


def import_haproxy(sections: Iterable[Directive], draft: Draft) -> None:
    """Put what they mean into `draft`; give each of them and their lines a fate."""
    tree = tuple(_without_environment(section, draft) for section in sections)
    found = tuple(scopes(tree, draft))
    backends = {each.name: each for each in found if each.section.name in ("backend", "listen")}
    globals_ = [line for section in tree if section.name == "global" for line in section.block]
    for each in found:
        if each.section.name in ("frontend", "listen"):
            _front(each, backends, globals_, draft)
    for section in tree:
        _section(section, draft)
    draft.sweep(tree, lambda line: key_of(line) in KNOWN)


def _without_environment(section: Directive, draft: Draft) -> Directive:
    """Return a section without the lines that the environment has a say in, which are left out."""
    for line in (section, *section.block):
        if line.expands:
            draft.left(line, "has an environment variable: put its value in its place")
    kept = tuple(line for line in section.block if not line.expands)
    return Directive(section.file, section.line, section.name, section.args, kept, section.expands)


def _section(section: Directive, draft: Draft) -> None:
    """Give a section and its lines a fate, if they have none yet."""
    for line in section.block:
        if section.name == "global":
            _global(line, draft)
        elif line.name == "no":
            draft.needless(line, "takes back what is said elsewhere")
        elif line.name in _NAMED:
            draft.left(line, _NAMED[line.name])
        why = NEEDLESS.get(key_of(line)) or NEEDLESS.get(line.name)
        if why and not draft.settled(line):
            draft.needless(line, why)
    if section.name in ("global", "defaults"):
        draft.needless(section, "its lines have each their own place")
    elif section.name in ("backend", "frontend", "listen") and not draft.settled(section):
        draft.left_whole(section, "no frontend that is imported leads to it")
    elif not draft.settled(section):
        draft.left_whole(section, "has no counterpart")


_NAMED: Final[Mapping[str, str]] = {
    "server-template": "write its servers out, or one with their name: all addresses of a name are used",
    "use_backend": "all connections of a frontend go to its default_backend",
    "acl": "connections are not told apart",
}


def _global(line: Directive, draft: Draft) -> None:
    if line.name == "hard-stop-after":
        draft.top.put("shutdown_timeout", haproxy_time(line.arg), Origin(line, line.words))
    elif line.name == "log":
        draft.needless(line, _STDERR)


def _front(front: Scope, backends: Mapping[str, Scope], globals_: Sequence[Directive], draft: Draft) -> None:
    target = front.last("default_backend")
    back = front if front.section.name == "listen" and target is None else backends.get(target.arg if target else "")
    if front.mode != "tcp" and not any(map(front.last, _HTTP)):
        _admin(front, draft)
    elif why := _impossible(front, target, back):
        draft.left_whole(front.section, why)
    elif back is not None:
        _proxy(front, back, globals_, draft)


def _impossible(front: Scope, target: Directive | None, back: Scope | None) -> str:
    """Return why lbproxy cannot stand in for a frontend with its backend at all; empty if it can."""
    if front.section.expands or (back and back.section.expands):
        return "is called by an environment variable"
    if front.mode != "tcp":
        return f"mode {front.mode}: lbproxy is for TCP"
    if back is None:
        return f"there is no backend {target.arg}" if target else "has no default_backend"
    if back.mode != "tcp":
        return f"its backend is of mode {back.mode}: lbproxy is for TCP"
    if front.last("disabled") or back.last("disabled"):
        return "is disabled"
    for why in (*map(impossible_bind, front.all("bind")), impossible_server(back.all("default-server"))):
        if why:
            return why
    return impossible_server(back.all("server"))


def _admin(front: Scope, draft: Draft) -> None:
    """Take what answers probes or shows counts: lbproxy's `admin` does both."""
    shows = [each for each in front.section.block if each.name in ("monitor-uri", "stats")]
    if not shows:
        draft.left_whole(front.section, f"mode {front.mode}: lbproxy is for TCP")
        return
    draft.needless(front.section, "is the counterpart of `admin`")
    for each in (*shows, *front.all("mode")):
        if each.name == "monitor-uri" and each.arg not in _PROBES:
            draft.left(each, "`admin` answers /healthz, /livez and /readyz")
        elif each.name == "stats" and each.arg in ("admin", "auth", "http-request", "scope"):
            draft.left(each, "`admin` knows no password, and changes nothing")
        else:
            draft.needless(each, "`admin` has /healthz, /livez, /readyz, and a page at /")
    for bind in front.all("bind"):
        for address in binds(bind, draft):
            if draft.admin.add(address, Origin(bind, bind.words)):
                draft.needless(bind, OPEN)


def _proxy(front: Scope, back: Scope, globals_: Sequence[Directive], draft: Draft) -> None:
    proxy = draft.proxy(front.name, front.section)
    draft.needless(back.section, f"its servers are those of {front.name}")
    listen(front.all("bind"), proxy)
    for each in (*front.all("default_backend"), *front.all("mode"), *back.all("mode")):
        draft.needless(each, "every proxy is of TCP, and has servers of its own")
    servers = import_servers(back.all("server"), back.all("default-server"), proxy)
    import_checks([each for each in back.lines if key_of(each) in CHECKS], servers, proxy)
    for line in back.lines:
        if (put := _SETTINGS.get(key_of(line))) is not None:
            put(line, proxy)
    limits = [*front.all("maxconn"), *(line for line in globals_ if line.name == "maxconn")]
    _least("max_connections", {line: whole(line.arg) for line in limits}, proxy)
    tunnel = [*back.all("timeout tunnel"), *front.all("timeout tunnel")]
    sides = [*front.all("timeout client"), *back.all("timeout server")]
    _least("idle_timeout", {line: _second(line) for line in tunnel or sides}, proxy)
    for line in sides if tunnel else ():
        draft.needless(line, "`timeout tunnel` takes its place once both sides are connected")
    _access(front, [line for line in globals_ if line.name == "log"], proxy)
    if (timeout := proxy.keys.values.get("connect_timeout")) is not None:
        proxy.keys.reach("connect_deadline", timeout)


def _second(line: Directive) -> str:
    return haproxy_time(" ".join(line.args[1:]))


def _least(key: str, given: Mapping[Directive, str], proxy: ProxyDraft) -> None:
    """Give `key` the least of some values, which all hold at once; 0 is no limit."""
    numbers = {line: proxy.keys.number(key, text) for line, text in given.items()}
    least = min((number for number in numbers.values() if number is not None), default=None)
    for line, number in numbers.items():
        if number == least or number is None:
            proxy.keys.put(key, given[line], Origin(line, line.words))
    for line, number in numbers.items():
        if number is not None and number != least:
            proxy.draft.needless(line, f"{key} is the least of what holds, {proxy.keys.values[key].text}")


def _access(front: Scope, targets: Sequence[Directive], proxy: ProxyDraft) -> None:
    """Take `log`: HAProxy has a line for every connection where a target takes those of level info."""
    for log in front.all("log"):
        asked = targets if log.arg == "global" else [log]
        takes = any(_least_level(target) in ("info", "debug") for target in asked)
        if takes and front.last("option dontlog-normal") is None:
            proxy.draft.log.put("access", "true", Origin(log, log.words))
        proxy.draft.needless(log, _STDERR)


def _least_level(log: Directive) -> str:
    """Return the level of what a target takes: `log TARGET [len N] [format F] FACILITY [LEVEL]`."""
    words = list(log.args[1:])
    while words[:1] and words[0] in ("len", "format", "sample", "profile"):
        del words[:2]
    return words[1] if len(words) > 1 else "debug"


def _balance(line: Directive, proxy: ProxyDraft) -> None:
    if line.arg == "leastconn":
        proxy.keys.put("balance", "least_conn", Origin(line, line.words))
    elif line.arg == "roundrobin":
        proxy.draft.needless(line, "the server with the fewest connections is chosen, and equals in turn")
    else:
        proxy.draft.left(line, "the server with the fewest connections is chosen")


def _connect(line: Directive, proxy: ProxyDraft) -> None:
    proxy.keys.put("connect_timeout", _second(line), Origin(line, line.words))


def _keepalive(line: Directive, proxy: ProxyDraft) -> None:
    key = {"srvtcpka-idle": "idle", "srvtcpka-intvl": "interval", "srvtcpka-cnt": "count"}[line.name]
    proxy.keepalive.put(key, whole(line.arg) if key == "count" else haproxy_time(line.arg), Origin(line, line.words))


_SETTINGS: Final[Mapping[str, Callable[[Directive, ProxyDraft], None]]] = {
    "balance": _balance,
    "timeout connect": _connect,
    **dict.fromkeys(("srvtcpka-idle", "srvtcpka-intvl", "srvtcpka-cnt"), _keepalive),
}
"""What stands in a backend, by its key."""
KNOWN: Final = frozenset(
    (*_SETTINGS, *CHECKS, "default_backend", "default-server", "log", "maxconn", "mode", "timeout client",
     "timeout server", "timeout tunnel")
)  # fmt: skip
"""What has a meaning, and may still hold for nothing: a default that every section says anew."""
