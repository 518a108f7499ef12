"""The configuration as values: every key, its default, and what it may hold, each in one place.

`load` walks these classes to read YAML, and the JSON Schema is made from them: a field added here
is a key of the file, with its default as given and its limits as annotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

DEFAULT_FILE = "/etc/lbproxy/lbproxy.yaml"
DEFAULT_CONTROL = "/run/lbproxy/control.sock"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds from `low` to `high`, written `250ms`, `1s`, `10m`, `1h` or as a bare number of seconds.

    With `zero`, 0 is allowed as well and switches the thing off.
    """

    low: float
    high: float
    zero: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """A non-empty string that matches `pattern` whole; `what` names it in an error."""

    what: str
    pattern: str = r"[^\x00-\x1f\x7f]+"


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port`; `host` is a host name, an IPv4 or an IPv6 address (written in brackets)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Literally:
    """Marks an `Address` whose host must be an IP address, because it is bound and not dialled."""


_NAME = r"[A-Za-z0-9_\[][A-Za-z0-9_.:\[\]-]{0,252}"
_PATH = Text("a path")

Listen = Annotated[Address, Literally()]
Path = Annotated[str, _PATH]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server of a proxy; in the file either a mapping or just its address."""

    address: Address
    name: Annotated[str, Text("a name of letters, digits and . _ : -", _NAME)] = ""
    """Defaults to the address."""
    weight: Annotated[int, Whole(1, 1000)] = 1
    max_conns: Annotated[int, Whole(0, 1_000_000)] = 0
    """0 = no limit."""
    backup: bool = False
    down: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", str(self.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """TCP keepalive of the server side (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)."""

    idle: Annotated[float, Duration(1, 32767)] = 5.0
    interval: Annotated[float, Duration(1, 32767)] = 2.0
    count: Annotated[int, Whole(1, 127)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """How fast surplus connections may be closed so that they come back elsewhere; 0 per minute = never."""

    per_minute: Annotated[int, Whole(0, 10_000)] = 0
    quiet: Annotated[float, Duration(0.1, 86400)] = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """Active checks of every server of a proxy."""

    type: Literal["tcp", "tls", "http", "https"] = "https"
    path: Annotated[str, Text("a path that begins with /", r"/[!-~]*")] = "/readyz"
    interval: Annotated[float, Duration(0.1, 3600)] = 5.0
    timeout: Annotated[float, Duration(0.05, 600)] = 2.0
    rise: Annotated[int, Whole(1, 100)] = 2
    fall: Annotated[int, Whole(1, 100)] = 2
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: Annotated[str, Text("a host name", r"[A-Za-z0-9_.-]{1,253}")] | None = None
    verify: bool = False
    """The node has no say in the CA, so a certificate proves nothing that the clients do not check themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """Listening addresses and the servers behind them."""

    listen: tuple[Listen, ...]
    servers: tuple[ServerConfig, ...]
    balance: Literal["least_conn"] = "least_conn"
    connect_timeout: Annotated[float, Duration(0.01, 60)] = 1.0
    connect_deadline: Annotated[float, Duration(0.01, 600)] = 3.0
    idle_timeout: Annotated[float, Duration(0.1, 30 * 86400, zero=True)] = 600.0
    max_fails: Annotated[int, Whole(0, 1000)] = 1
    """0 = connect failures are not held against a server."""
    fail_timeout: Annotated[float, Duration(0.1, 86400)] = 10.0
    tcp_user_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 10.0
    keepalive: Keepalive = field(default_factory=Keepalive)
    max_connections: Annotated[int, Whole(0, 10_000_000)] = 0
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    first_byte_timeout: Annotated[float, Duration(0.05, 600, zero=True)] = 3.0
    slow_start: Annotated[float, Duration(0.1, 86400, zero=True)] = 0.0
    rebalance: Rebalance = field(default_factory=Rebalance)
    drain_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 30.0
    on_down: Literal["close", "keep"] = "close"
    health: HealthConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The HTTP endpoint for metrics and probes."""

    listen: Listen


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    access: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration file. `proxies` maps a proxy's name to it, in file order."""

    proxies: Mapping[Annotated[str, Text("a name of letters, digits and . _ : -", _NAME)], ProxyConfig]
    workers: Annotated[int, Whole(1, 256)] | Literal["auto"] = 1
    control: Path = DEFAULT_CONTROL
    shutdown_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 10.0
    watch: bool = True
    admin: Admin | None = None
    node_id: Annotated[str, Text("a node id")] = "auto"
    log: Log = field(default_factory=Log)
