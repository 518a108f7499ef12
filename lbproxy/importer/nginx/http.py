"""What stands in nginx's `http`: lbproxy serves nothing by HTTP but what a probe asks for, which is its `admin`."""

from __future__ import annotations

from typing import Final

from lbproxy.importer.directive import Directive, every
from lbproxy.importer.draft import OPEN, Draft, Origin
from lbproxy.importer.nginx.upstream import address_of

_ADMIN: Final = "is the counterpart of `admin`"
_PROBES: Final = ("/healthz", "/livez", "/readyz", "/")
_BESIDE: Final = frozenset(("access_log", "add_header", "default_type", "include", "log_not_found"))
"""What may stand in a location and says nothing of what it answers."""


def import_http(http: Directive, draft: Draft) -> None:
    """Take the server that answers probes as `admin`; the other servers have no counterpart."""
    served = False
    for server in (each for each in http.block if each.name == "server"):
        if _answers_probes(server):
            _admin(server, draft)
        else:
            draft.left_whole(server, "lbproxy serves no HTTP but `admin`")
            served = True
    draft.needless(http, "of HTTP lbproxy has only `admin`", "http")
    for each in http.block:
        if draft.settled(each):
            continue
        if served or each.name in ("upstream", "map", "geo", "split_clients"):
            draft.left_whole(each, "lbproxy serves no HTTP but `admin`")
        else:
            draft.needless_whole(each, "is about HTTP, of which lbproxy has only `admin`")


def _answers_probes(server: Directive) -> bool:
    locations = [each for each in server.block if each.name == "location"]
    modes = {word for each in server.block if each.name == "listen" for word in each.args[1:]}
    return bool(locations) and not modes & {"ssl", "quic", "proxy_protocol"} and all(map(_answers, locations))


def _answers(location: Directive) -> bool:
    """Tell whether all that it does is to say 200, or nginx's own counts."""
    does = [each for each in location.block if each.name not in _BESIDE]
    return len(does) == 1 and (does[0].name == "stub_status" or (does[0].name == "return" and does[0].arg == "200"))


def _admin(server: Directive, draft: Draft) -> None:
    draft.needless(server, _ADMIN, "server")
    for each in server.block:
        if each.name == "listen":
            _listen(each, draft)
        elif each.name == "location":
            _location(each, draft)
        elif each.name in ("allow", "deny"):
            draft.left(each, "`admin` answers everybody who reaches its address")
        elif each.name in (*_BESIDE, "server_name", "keepalive_timeout", "server_tokens", "root", "error_log"):
            draft.needless(each, "`admin` has nothing to set but its address")
        else:
            draft.left_whole(each, "has no counterpart in `admin`")


def _listen(listen: Directive, draft: Draft) -> None:
    if listen.args[1:]:
        draft.needless(listen, "listening sockets are as lbproxy makes them")
    if draft.admin.add(address_of(listen.arg), Origin(listen, listen.words)):
        draft.needless(listen, OPEN)


def _location(location: Directive, draft: Draft) -> None:
    path = location.args[-1] if location.args else ""
    counts = any(each.name == "stub_status" for each in location.block)
    if counts:
        why = "nginx's counts have a counterpart in /metrics and /status of `admin`"
    elif path in _PROBES:
        why = f"`admin` answers {path}"
    else:
        draft.left_whole(location, "`admin` answers /healthz, /livez and /readyz")
        return
    for each in every((location,)):
        draft.needless(each, why)
