"""What the answer of a server means, and what it means that there was none.

connect or TLS fails, or is not done in time             DOWN
what comes is not HTTP, or ends before its end           DOWN
no whole answer in time, though connect and TLS work     SICK      late is not gone: it serves those it has (etcd slow)
2xx                                                      UP
401, 403, 429      the API server itself refuses us      UP        alive; whether it is ready it does not tell
5xx with `[-]shutdown` in the body                       DRAINING  a planned stop
other 5xx                                                SICK
anything else (3xx, 404, ...)                            SICK      HTTP works, and nobody there knows /readyz: no
reason to send clients, none to cut them off now
no descriptor, memory or local port left here            NotAsked  it says nothing of the server
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from lbproxy.balance.checked import CheckResult
from lbproxy.balance.state import State
from lbproxy.net.reasons import CLOSED, SHORTAGE, reason
from lbproxy.record import dataclass

_ALIVE: Final = {401: "wants a login", 403: "forbids the question", 429: "too busy to tell"}
_FAILING: Final = re.compile(rb"^\[-\]([!-~]{1,60})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The question could not be asked, for want of something here."""

    reason: str


def judge(status: int, body: bytes) -> CheckResult:
    """Return what a whole answer means."""
    kind = f"http_{status}"
    if 200 <= status < 300:
        return CheckResult(State.UP, f"{status}: ready", "ok")
    if status in _ALIVE:
        return CheckResult(State.UP, f"{status}: alive, {_ALIVE[status]}", kind, sure=False)
    if status < 500:
        return CheckResult(State.SICK, f"{status}: neither ready nor not ready", kind)
    failing = [name.decode() for name in _FAILING.findall(body)]
    if "shutdown" in failing:
        return CheckResult(State.DRAINING, f"{status}: [-]shutdown", "shutdown")
    why = ", ".join(f"[-]{name}" for name in failing[:3]) + (f" and {len(failing) - 3} more" if failing[3:] else "")
    said = f"{why} failed" if failing else printable(body.partition(b"\n")[0].decode("ascii", "replace"))
    return CheckResult(State.SICK, f"{status}: {said or 'no reason given'}", kind)


def judge_failure(error: OSError, stage: str, timeout: float, alive: bool = False) -> CheckResult | NotAsked:
    """Return what it means that there was no answer.

    `stage` is how far the question had come, `timeout` in seconds; `alive` says that a new connection was made
    meanwhile, TLS included.
    """
    if isinstance(error, TimeoutError):
        state = State.SICK if alive else State.DOWN
        return CheckResult(state, f"no answer within {timeout:g}s ({stage})", "timeout")
    if isinstance(error, ssl.SSLError):
        return CheckResult(State.DOWN, f"TLS: {_tls_trouble(error)}", "tls")
    kind = reason(error.errno) if error.errno else CLOSED
    return NotAsked(plain(error)) if kind == SHORTAGE else CheckResult(State.DOWN, plain(error), kind)


def _tls_trouble(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.lower().rstrip(".")
    ended = isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)  # which one is a matter of the moment
    return "closed during the handshake" if ended else plain(error)


def plain(error: Exception) -> str:
    """Return an error's text in lower case, without numbers and places in OpenSSL's source."""
    text = (isinstance(error, ssl.SSLError) and error.reason) or (isinstance(error, OSError) and error.strerror)
    return printable((text or str(error)).replace("_", " ").lower())


def printable(text: str) -> str:
    """Return what of a stranger's text may stand in a log: 120 characters of ASCII."""
    return re.sub(r"[^ -~]", "?", text)[:120].strip()
