"""Is a server well, and where is it: questions asked, names looked up.

In reading order: `monitor` (all that one server in service needs, from its first moment to `stop`), which runs a
`checker` and, for a host name, what is in `resolve`; what `loops` finds to lead back here is left out. A `Checker` asks
when its `schedule` says; a `Probe` (`probe`) knows *what* is asked, a connect, a TLS handshake or a GET; its connection
is a `Stream` (`stream`), `secure` has what TLS needs of files, `certificate` reads when one ends, and what the answer
means is in `answer`.

Imports the door of a proxy for what is seen of its servers (`proxy.backend`) and what is under it; only `process` may
import it. Its table is in `answer`; what becomes of the results, in `balance.checked`.
"""
