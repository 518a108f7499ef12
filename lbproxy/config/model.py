"""The configuration as values: every key, its default, and what it may hold, each in one place.

`load` walks these classes to read YAML, and the JSON Schema is made from them: a field added here is a key of the file,
with its default as given, its limits as annotated, and the text below it as what editors show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, ClassVar, Literal

from lbproxy.record import dataclass

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
_GLOB = r"(/[^\x00-\x1f\x7f/*?\[\]]+)*/[^\x00-\x1f\x7f/]+"
_SRV = r"_[A-Za-z0-9-]{1,62}\._(tcp|udp)(\.[A-Za-z0-9-]{1,63})+\.?|[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[1-9][0-9]{0,4}"

Listen = Annotated[Address, Literally()]
Path = Annotated[str, _PATH]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server of a proxy; in the file either a mapping or just its address."""

    address: Address
    """Host and port to connect to. A host name is looked up again every 30 s."""
    name: Annotated[str, Text("a name of letters, digits and . _ : -", _NAME)] = ""
    """What metrics and commands call it; the default is its address."""
    weight: Annotated[int, Whole(1, 1000)] = 1
    """Its share of the connections, beside the weights of the others."""
    max_conns: Annotated[int, Whole(0, 1_000_000)] = 0
    """Connections it may have at a time; 0 = no limit."""
    backup: bool = False
    """Used only while no server that is not a backup can be."""
    down: bool = False
    """Gets no new connections, as after `lbproxy drain`."""

    source: ClassVar[str] = "config"
    """Who names it."""
    good: ClassVar[bool] = True
    """Whether it is used before its checks have said so."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", str(self.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSource:
    """The API servers that Kubernetes itself knows of."""

    kubeconfig: Path
    """Says with what certificate or token to watch the EndpointSlices of the service `kubernetes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersFrom:
    """Where more servers are found. An answer without servers, or none, takes no server away."""

    file: Annotated[str, Text("an absolute path, with * only in the name of the file", _GLOB)] | None = None
    """Files, each a list as `servers` is; with * and ? several, such as /etc/lbproxy/servers.d/*.yaml."""
    dns: Annotated[str, Text("HOST:PORT, or the name of SRV records such as _https._tcp.example", _SRV)] | None = None
    """A name and a port, each address of which is a server, or the name of SRV records; asked every 30 s."""
    kubernetes: KubernetesSource | None = None
    """The API servers that Kubernetes itself knows of, watched through this proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """TCP keepalive on the connections to servers (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT)."""

    idle: Annotated[float, Duration(1, 32767)] = 5.0
    """How long a connection is silent before the kernel asks whether the server is still there."""
    interval: Annotated[float, Duration(1, 32767)] = 2.0
    """Time between two such questions."""
    count: Annotated[int, Whole(1, 127)] = 3
    """Questions without an answer after which the connection is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """How fast surplus connections may be closed so that they come back elsewhere."""

    per_minute: Annotated[int, Whole(0, 10_000)] = 1
    """Connections closed in a minute at most; 0 = none, ever."""
    quiet: Annotated[float, Duration(0.1, 86400)] = 5.0
    """How long a connection must have had no byte either way to be closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """Active checks of every server of a proxy."""

    type: Literal["tcp", "tls", "http", "https"] = "https"
    """How far a check goes: to a connection, a TLS handshake, an HTTP answer, or an HTTP answer over TLS."""
    path: Annotated[str, Text("a path that begins with /", r"/[!-~]*")] = "/readyz"
    """What http and https ask for: 2xx is up; 401, 403 and 429 are alive; anything else is sick."""
    interval: Annotated[float, Duration(0.1, 3600)] = 5.0
    """Time between two checks of a server; shorter while its answers change."""
    timeout: Annotated[float, Duration(0.05, 600)] = 2.0
    """Time a check may take from the connect to the answer."""
    rise: Annotated[int, Whole(1, 100)] = 2
    """Good answers in a row that bring a server up."""
    fall: Annotated[int, Whole(1, 100)] = 2
    """Bad answers in a row that take it down."""
    ca_file: Path | None = None
    """CA certificates (PEM) that `verify` goes by; the default is those of the system."""
    cert_file: Path | None = None
    """Certificate (PEM) to show to servers that refuse anonymous requests; needs key_file."""
    key_file: Path | None = None
    """Private key (PEM) of cert_file."""
    server_name: Annotated[str, Text("a host name", r"[A-Za-z0-9_.-]{1,253}")] | None = None
    """Name asked for in TLS, and looked for in the certificate; the default is the host of the server."""
    verify: bool = False
    """Whether the certificate is checked. Off, since it proves nothing that the clients do not check themselves."""

    @property
    def secure(self) -> bool:
        """Whether a check goes over TLS."""
        return self.type in ("tls", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """Listening addresses and the servers behind them."""

    listen: tuple[Listen, ...]
    """IP addresses with ports to accept on."""
    servers: tuple[ServerConfig, ...] = ()
    """Who gets the connections; none are needed where servers_from finds some."""
    servers_from: ServersFrom | None = None
    """Where more servers are found, beside those in `servers`."""
    balance: Literal["least_conn"] = "least_conn"
    """How a server is chosen: the one with the fewest connections for its weight."""
    connect_timeout: Annotated[float, Duration(0.01, 60)] = 1.0
    """Time for one attempt to connect to a server."""
    connect_deadline: Annotated[float, Duration(0.01, 600)] = 3.0
    """Time for all attempts of one client together, after which it is closed."""
    idle_timeout: Annotated[float, Duration(0.1, 30 * 86400, zero=True)] = 600.0
    """A connection is closed after this long without a byte either way; 0 = never."""
    max_fails: Annotated[int, Whole(0, 1000)] = 1
    """Failed connects within fail_timeout after which a server is avoided; 0 = they are not held against it."""
    fail_timeout: Annotated[float, Duration(0.1, 86400)] = 10.0
    """How long failed connects are counted, and how long the server is avoided then."""
    tcp_user_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 10.0
    """A connection is cut when the server has not acknowledged data for this long; 0 = as the kernel does it."""
    keepalive: Keepalive = field(default_factory=Keepalive)
    """When the kernel asks whether the server of a silent connection is still there."""
    max_connections: Annotated[int, Whole(0, 10_000_000)] = 0
    """Clients at a time; more are closed at once. 0 = as many as there are file descriptors for."""
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    """PROXY protocol header that tells the server the client's address; only for servers that expect one."""
    first_byte_timeout: Annotated[float, Duration(0.05, 600, zero=True)] = 3.0
    """Another server is asked when one does not answer a ClientHello for this long; 0 = never."""
    slow_start: Annotated[float, Duration(0.1, 86400, zero=True)] = 10.0
    """Time over which a server that has recovered gets its share back; 0 = at once."""
    rebalance: Rebalance = field(default_factory=Rebalance)
    """How connections of servers that have too many are closed, so that they come back elsewhere."""
    drain_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 30.0
    """How long the connections of a removed or drained server may go on; 0 = they are cut at once."""
    on_down: Literal["close", "keep"] = "close"
    """What becomes of the open connections of a server whose checks have failed."""
    health: HealthConfig | None = None
    """Active checks; without them servers are judged by the connections of the clients alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The HTTP endpoint for metrics and probes, which knows no password."""

    listen: tuple[Listen, ...]
    """IP address and port, or several. That one is taken does not stop the proxies."""
    probes: tuple[Listen, ...] | None = None
    """Where /livez, /readyz and /healthz are answered and nothing else, for the network; the default is nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is worth a line."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or JSON objects, one a line."""
    access: bool = False
    """Whether every finished connection is a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration file."""

    proxies: Mapping[Annotated[str, Text("a name of letters, digits and . _ : -", _NAME)], ProxyConfig]
    """The proxies by name, which is the `proxy` label of their metrics; in file order."""
    workers: Annotated[int, Whole(1, 256)] | Literal["auto"] = 1
    """Processes that accept and relay; auto = one per CPU it may use. Takes effect at the next restart or upgrade."""
    control: Path = DEFAULT_CONTROL
    """Unix socket (mode 0600) through which `lbproxy status` and the rest talk to the daemon; takes a restart."""
    shutdown_timeout: Annotated[float, Duration(0.1, 86400, zero=True)] = 10.0
    """How long connections may go on after SIGTERM; 0 = they are cut at once."""
    watch: bool = True
    """Whether a change of the file is a reload."""
    admin: Admin | None = None
    """HTTP endpoint for metrics, probes and people; the default is to have none."""
    node_id: Annotated[str, Text("a node id")] = "auto"
    """Seeds the order of equal servers, so that not all nodes begin with the same; auto = the machine id."""
    log: Log = field(default_factory=Log)
    """What is logged and how."""


Record = (
    ServerConfig
    | KubernetesSource
    | ServersFrom
    | Keepalive
    | Rebalance
    | HealthConfig
    | ProxyConfig
    | Admin
    | Log
    | Config
)
"""What stands for a mapping of the file whose keys are known."""
