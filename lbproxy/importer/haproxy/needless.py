"""What may stand in haproxy.cfg and needs no key, by its first word or words, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_UNIT: Final = "is up to the unit file: User=, LimitNOFILE=, CPUAffinity= and the like"
_SYSTEMD: Final = "is up to systemd"
_HTTP: Final = "is about HTTP"
_ALWAYS: Final = "is always done"
_WORKERS: Final = "one process carries a node's traffic; `workers` says how many"
_SOCKET: Final = "the counterpart is `control`, which `lbproxy status` asks"
_LOG: Final = "lines of the log have a format of their own"
_NAMES: Final = "a proxy has a name"
_QUEUE: Final = "nobody waits in a queue: without a server that has room a client is closed"
_KEEPALIVE: Final = "keepalive is always on, see `keepalive`"
_TLS: Final = "is for TLS that ends in HAProxy; here it is passed through"

NEEDLESS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("user", "group", "uid", "gid", "chroot", "cpu-map", "ulimit-n", "maxsock"), _UNIT),
    **dict.fromkeys(("daemon", "pidfile", "master-worker", "set-dumpable", "localpeer"), _SYSTEMD),
    **dict.fromkeys(("nbproc", "nbthread", "bind-process", "thread-groups"), _WORKERS),
    **dict.fromkeys(("stats socket", "stats timeout", "stats maxconn"), _SOCKET),
    **dict.fromkeys(("description", "id", "node", "guid"), _NAMES),
    **dict.fromkeys(
        ("ca-base", "crt-base", "ssl-default-bind-ciphers", "ssl-default-bind-ciphersuites", "ssl-default-bind-curves",
         "ssl-default-bind-options", "ssl-default-server-ciphers", "ssl-default-server-ciphersuites",
         "ssl-default-server-options", "ssl-server-verify", "ssl-dh-param-file", "tune.ssl.default-dh-param"),
        _TLS,
    ),
    **dict.fromkeys(
        ("timeout http-request", "timeout http-keep-alive", "timeout tarpit", "option httplog", "option httpclose",
         "option http-server-close", "option http-keep-alive", "option http-use-htx", "option forwardfor",
         "option http-buffer-request", "option http-ignore-probes", "option http-no-delay", "option httpslog",
         "option http-pretend-keepalive", "option http-use-proxy-header", "errorfile", "http-reuse", "monitor-uri"),
        _HTTP,
    ),
    **dict.fromkeys(("option tcplog", "option dontlognull", "option logasap", "option log-separate-errors",
                     "option log-health-checks", "log-format", "log-tag", "log-send-hostname",
                     "unique-id-format"), _LOG),
    **dict.fromkeys(("option redispatch", "option tcp-smart-accept", "option tcp-smart-connect",
                     "option splice-auto", "option splice-request", "option splice-response", "option clitcpka",
                     "option abortonclose", "option contstats", "option socket-stats"), _ALWAYS),
    **dict.fromkeys(("option tcpka", "option srvtcpka"), _KEEPALIVE),
    "retries": "servers are tried until connect_deadline",
    "timeout queue": _QUEUE,
    "option dontlog-normal": "`log.access` says it",
    "option prefer-last-server": _HTTP,
    "spread-checks": "checks of different servers are never in step",
}  # fmt: skip
