"""What nginx's directives mean: those of the whole process, and those of `stream`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Draft, Origin, ProxyDraft
from lbproxy.importer.nginx.http import import_http
from lbproxy.importer.nginx.upstream import import_upstream, listens
from lbproxy.importer.units import nginx_time

_UNIT: Final = "is up to the unit file: User=, LimitNOFILE=, CPUAffinity= and the like"
_SYSTEMD: Final = "is up to systemd"
_WORKERS: Final = "one process carries a node's traffic; `workers` says how many"
_EVENTS: Final = "lbproxy knows only epoll, and takes as many connections at a time as there are"
_LIMIT: Final = "the limit is that of file descriptors, LimitNOFILE= in the unit file"
_FOLLOWED: Final = "what is in there follows with its own place"
_BUFFERS: Final = "buffers have one size, and sockets send at once"
_OWN_FORMAT: Final = "lines of the log have a format of their own"
_MAIN: Final[Mapping[str, str]] = {
    "include": _FOLLOWED,
    "worker_processes": _WORKERS,
    "worker_rlimit_nofile": _LIMIT,
    "worker_cpu_affinity": _UNIT,
    "worker_priority": _UNIT,
    "worker_rlimit_core": _UNIT,
    "working_directory": _UNIT,
    "user": _UNIT,
    "env": _UNIT,
    "pid": _SYSTEMD,
    "daemon": _SYSTEMD,
    "master_process": _SYSTEMD,
    "lock_file": _SYSTEMD,
    "load_module": "there are no modules",
    "pcre_jit": "there are no patterns",
    "thread_pool": "there are no threads to size",
    "timer_resolution": "timers cost nothing here",
}
_IN_EVENTS: Final[Mapping[str, str]] = {
    "include": _FOLLOWED,
    "worker_connections": _LIMIT,
    **dict.fromkeys(("accept_mutex", "accept_mutex_delay", "multi_accept", "use", "worker_aio_requests"), _EVENTS),
}
_IN_STREAM: Final[Mapping[str, str]] = {
    "include": _FOLLOWED,
    "log_format": _OWN_FORMAT,
    "open_log_file_cache": _OWN_FORMAT,
    "proxy_buffer_size": _BUFFERS,
    "preread_buffer_size": _BUFFERS,
    "tcp_nodelay": _BUFFERS,
    "proxy_socket_keepalive": "keepalive is always on, see `keepalive`",
    "proxy_next_upstream_tries": "servers are tried until connect_deadline",
    "proxy_half_close": "half-close is always passed on",
    "variables_hash_max_size": "there are no variables",
    "variables_hash_bucket_size": "there are no variables",
}
_LEVELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("info", "notice"), "info"),
    **dict.fromkeys(("error", "crit", "alert", "emerg"), "error"),
    "debug": "debug",
    "warn": "warning",
}
_ENDS_TLS: Final = "TLS is passed through, and ends at the servers"
_OTHER: Final[Mapping[str, str]] = {
    "proxy_ssl": "to the servers goes what the client sends, and no TLS is put around it",
    "ssl_preread": "bytes are not looked into, so they cannot choose a server",
}
"""What a server of `stream` does, where it is `on`, that lbproxy does not do at all."""


def import_nginx(directives: Iterable[Directive], draft: Draft) -> None:
    """Put what they mean into `draft`; give each of them a fate."""
    tree = tuple(directives)
    for each in tree:
        if each.name == "stream":
            draft.needless(each, "every proxy here is one of `stream`", "stream")
            _stream(each.block, draft)
        elif each.name == "events":
            draft.needless(each, _EVENTS, "events")
            _needless(each.block, _IN_EVENTS, draft)
        elif each.name == "worker_shutdown_timeout":
            draft.top.put("shutdown_timeout", nginx_time(each.arg), Origin(each, each.words))
        elif each.name == "error_log":
            _error_log(each, draft)
    _needless(tree, _MAIN, draft)
    for each in tree:
        if each.name == "http":
            import_http(each, draft)
    draft.sweep(tree, lambda each: each.name in _SETTINGS or each.name in _IN_STREAM)


def _needless(directives: Iterable[Directive], known: Mapping[str, str], draft: Draft) -> None:
    for each in directives:
        if each.name in known:
            draft.needless(each, known[each.name])


def _error_log(log: Directive, draft: Draft) -> None:
    level = log.args[1] if len(log.args) > 1 else "error"
    if log.arg not in ("stderr", "/dev/stderr"):
        draft.needless(log, "the log goes to stderr, which is the journal's", f"error_log {log.arg}")
    draft.log.put("level", _LEVELS.get(level, level), Origin(log, log.words))


def _stream(block: tuple[Directive, ...], draft: Draft) -> None:
    upstreams = {each.arg: each for each in block if each.name == "upstream"}
    _needless(block, _IN_STREAM, draft)
    inherited = {each.name: each for each in block if each.name in _SETTINGS}
    for each in block:
        if each.name == "server":
            _server(each, upstreams, inherited, draft)
    for each in upstreams.values():
        if not draft.settled(each):
            draft.left_whole(each, "nothing that is imported leads to it")
    for each in block:
        if each.name == "error_log":
            draft.needless(each, "there is one log, of the level that is said for the whole process")
        elif each.name not in ("server", "upstream", *_SETTINGS) and not draft.settled(each):
            draft.left_whole(each, "has no counterpart")


def _server(
    server: Directive, upstreams: Mapping[str, Directive], inherited: Mapping[str, Directive], draft: Draft
) -> None:
    given = {**inherited, **{each.name: each for each in server.block}}
    if why := _impossible(server, given):
        draft.left_whole(server, why)
        return
    target = given["proxy_pass"]
    upstream = upstreams.get(target.arg)
    proxy = draft.proxy(target.arg, server if upstream is None else upstream)
    draft.needless(server, f"is the proxy {proxy.name}", "server")
    draft.needless(target, "is its servers")
    for each in server.block:
        if each.name == "listen":
            listens(each, proxy)
    if upstream is None:
        proxy.serves("", target.arg, Origin(target, target.words))
    else:
        import_upstream(upstream, proxy)
    _settings(given, proxy)
    _needless(server.block, _IN_STREAM, draft)
    for each in server.block:
        if not draft.settled(each):
            draft.left_whole(each, "has no counterpart")


def _impossible(server: Directive, given: Mapping[str, Directive]) -> str:
    """Return why lbproxy cannot stand in for a server of `stream` at all; empty if it can."""
    if "proxy_pass" not in given:
        return "has no proxy_pass: lbproxy answers nothing by itself"
    if "$" in given["proxy_pass"].arg:
        return "proxy_pass has a variable: which servers are behind it is not said in the file"
    if given["proxy_pass"].arg.startswith("unix:"):
        return "proxy_pass leads to a unix socket"
    for name, why in _OTHER.items():
        if name in given and given[name].arg == "on":
            return f"{name}: {why}"
    modes = {word for each in server.block if each.name == "listen" for word in each.args[1:]}
    for word, why in (("ssl", _ENDS_TLS), ("udp", "lbproxy is for TCP"), ("proxy_protocol", "it takes no such header")):
        if word in modes:
            return f"listen {word}: {why}"
    return ""


def _settings(given: Mapping[str, Directive], proxy: ProxyDraft) -> None:
    for name, put in _SETTINGS.items():
        if name in given:
            put(given[name], proxy)
    if (timeout := proxy.keys.values.get("connect_timeout")) and "connect_deadline" not in proxy.keys.values:
        proxy.keys.reach("connect_deadline", timeout)


def _time(key: str) -> Callable[[Directive, ProxyDraft], None]:
    def put(directive: Directive, proxy: ProxyDraft) -> None:
        proxy.keys.put(key, nginx_time(directive.arg), Origin(directive, directive.words))

    return put


def _all_tries(directive: Directive, proxy: ProxyDraft) -> None:
    """Take the limit of all tries together, which comes after that of one of them; 0 is none."""
    one, every = proxy.keys.values.get("connect_timeout"), nginx_time(directive.arg)
    limit = proxy.keys.number("connect_deadline", every)
    if every == "0":
        proxy.draft.needless(directive, "connect_deadline is the limit")
    elif one is not None and limit is not None and limit < (proxy.keys.number("connect_timeout", one.text) or 0):
        proxy.draft.left(directive, "connect_deadline cannot be less than connect_timeout")
    else:
        _time("connect_deadline")(directive, proxy)


def _proxy_protocol(directive: Directive, proxy: ProxyDraft) -> None:
    proxy.keys.put(directive.name, "v1" if directive.arg == "on" else directive.arg, Origin(directive, directive.words))


def _next_upstream(directive: Directive, proxy: ProxyDraft) -> None:
    if directive.arg == "on":
        proxy.draft.needless(directive, "another server is always tried")
    else:
        proxy.draft.left(directive, "another server is always tried")


def _access_log(directive: Directive, proxy: ProxyDraft) -> None:
    access = "false" if directive.arg == "off" else "true"
    if any(each.startswith("if=") for each in directive.args):
        proxy.draft.left(directive, "all connections have a line, or none")
    elif proxy.draft.log.put("access", access, Origin(directive, directive.words)) and directive.args[1:]:
        proxy.draft.needless(directive, _OWN_FORMAT)


def _off(directive: Directive, proxy: ProxyDraft) -> None:
    proxy.draft.needless(directive, "is never done here")


_SETTINGS: Final[Mapping[str, Callable[[Directive, ProxyDraft], None]]] = {
    "proxy_timeout": _time("idle_timeout"),
    "proxy_connect_timeout": _time("connect_timeout"),
    "proxy_next_upstream": _next_upstream,
    "proxy_next_upstream_timeout": _all_tries,
    "proxy_protocol": _proxy_protocol,
    "access_log": _access_log,
    **dict.fromkeys(_OTHER, _off),
}
"""What may stand in `stream`, for all of its servers, and in each of them."""
