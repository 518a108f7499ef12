"""How HAProxy checks the servers of a backend, as lbproxy's `health`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from lbproxy.importer.directive import Directive
from lbproxy.importer.draft import Origin, ProxyDraft, Value
from lbproxy.importer.haproxy.server import SHARED, Servers
from lbproxy.importer.units import haproxy_time, whole

CHECKS: Final = frozenset(
    ("http-check", "tcp-check", "option httpchk", "option tcp-check", "option ssl-hello-chk", "timeout check")
)
"""The keys of the lines that say how a check is made."""
_OF_SERVERS: Final = ("check", "check-ssl", "check-sni", "inter", "rise", "fall")
_NO_CHECK: Final = "no server has `check`"
_GET: Final = "a check asks by GET, in HTTP/1.1"


def import_checks(lines: Sequence[Directive], servers: Servers, proxy: ProxyDraft) -> None:
    """Take how servers are checked; nothing, if none is."""
    checked = [value for value in servers.shared["check"] if value is not None]
    if not checked:
        _unchecked(lines, servers, proxy)
        return
    for line, value in zip(servers.lines, servers.shared["check"], strict=True):
        if value is None:
            proxy.draft.left(line, "has no `check`, and all servers of a proxy are checked", f"server {line.arg}")
    http = [line for line in lines if " ".join((line.name, line.arg)) == "option httpchk"]
    tls = [*_encrypted(lines), *_agreed(servers, proxy)]
    kind = ("https" if tls else "http") if http else "tls" if tls else "tcp"
    origins = [origin for value in checked for origin in value.origins]
    proxy.health.put("type", kind, *origins, *(Origin(line, line.words) for line in http), *tls)
    for line in http:
        _httpchk(line, lines, proxy)
    for line in lines:
        _line(line, proxy)
    for key, name in (("interval", "inter"), ("rise", "rise"), ("fall", "fall"), ("server_name", "check-sni")):
        given = servers.shared[name]
        numbers = (
            given
            if name not in ("rise", "fall")
            else [each and Value(whole(each.text), each.origins) for each in given]
        )
        proxy.health.agree(key, numbers, SHARED[name])


def _unchecked(lines: Sequence[Directive], servers: Servers, proxy: ProxyDraft) -> None:
    for line in lines:
        proxy.draft.needless(line, _NO_CHECK)
    for name in _OF_SERVERS:
        for value in servers.shared[name]:
            for origin in value.origins if value else ():
                proxy.draft.needless(origin.directive, _NO_CHECK, origin.words)


def _encrypted(lines: Sequence[Directive]) -> Iterator[Origin]:
    """Yield the lines that have a check begin with TLS."""
    for line in lines:
        ssl = line.args[:1] == ("connect",) and "ssl" in line.args
        if ssl or line.arg == "ssl-hello-chk":
            yield Origin(line, line.words)


def _agreed(servers: Servers, proxy: ProxyDraft) -> list[Origin]:
    """Return the `check-ssl` of servers: all have it, or it is left out."""
    given = servers.shared["check-ssl"]
    origins = [origin for value in given if value for origin in value.origins]
    if all(given):
        return origins
    for origin in origins:
        proxy.draft.left(origin.directive, "differs between servers, which are all checked alike", origin.words)
    return []


def _httpchk(line: Directive, lines: Sequence[Directive], proxy: ProxyDraft) -> None:
    """Take `option httpchk [METHOD] [URI] [VERSION]`, of which `http-check send` may say the rest."""
    words = line.args[1:]
    sent = [each for each in lines if each.name == "http-check" and each.arg == "send" and "uri" in each.args]
    method, path = (words[0], words[1]) if len(words) > 1 else ("", words[0] if words else "/")
    if not sent:
        proxy.health.put("path", path, Origin(line, line.words))
    if method not in ("", "GET") or len(words) > 3:
        proxy.draft.left(line, _GET)
    else:
        proxy.draft.needless(line, _GET)


def _line(line: Directive, proxy: ProxyDraft) -> None:
    if line.name == "timeout":
        proxy.health.put("timeout", haproxy_time(" ".join(line.args[1:])), Origin(line, line.words))
    elif line.name == "option" and line.arg != "httpchk":
        proxy.draft.needless(line, "is a type of check")
    elif line.name == "http-check" and line.arg == "send":
        _send(line, proxy)
    elif line.args[:3] == ("expect", "status", "200") and not line.args[3:]:
        proxy.draft.needless(line, "200 is up; 401, 403 and 429 are alive, and chosen after it")
    elif line.arg == "connect" and not set(line.args[1:]) - {"ssl", "default"}:
        proxy.draft.needless(line, "a check connects, with TLS if its type says so")
    elif line.name != "option":
        proxy.draft.left(line, "has no counterpart")


def _send(line: Directive, proxy: ProxyDraft) -> None:
    """Take `http-check send meth GET uri PATH ver HTTP/1.1`, and say of the other words that they are left out."""
    words = iter(line.args[1:])
    for word in words:
        value = next(words, "")
        origin = Origin(line, f"http-check send {word} {value}".rstrip())
        if word == "uri":
            proxy.health.put("path", value, origin)
        elif (word, value) == ("meth", "GET") or word == "ver":
            proxy.draft.needless(line, _GET, origin.words)
        else:
            more = f" {next(words, '')}".rstrip() if word in ("hdr", "hdr-lf") else ""
            proxy.draft.left(line, _GET, origin.words + more)
