"""The system calls of the hot path: they never wait, and most say how they went by a number instead of an exception.

There are two forms: `plain` in Python, and `_syscalls` in C (`csrc/`), which `make compile` builds. Which one is used
is decided here, once: the one in C where it is built. `contract` has the types, `plain` says what each call does, and
tests/unit/net/test_syscalls.py tries both forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lbproxy.net.contract import Epoll

try:
    from lbproxy.net import _syscalls as form

    COMPILED = True
except ImportError:
    from lbproxy.net import plain as form  # type: ignore[no-redef]

    COMPILED = False

# Final: mypyc, which compiles this module too, then calls them without looking them up (7 % of an exchange).
accept: Final = form.accept
connect: Final = form.connect
copy: Final = form.copy
epoll: Final = form.epoll
recv: Final = form.recv
send: Final = form.send
splice: Final = form.splice


def embed(own: Epoll, loop: object, handle: Callable[[tuple[int, ...]], bool]) -> bool:
    """Have the set `own` wait in place of `loop`, if that can be done: in C, with uvloop. Returns whether.

    Nothing stands between the kernel and the set then: `handle` is called with what is ready, see `Epoll.embed`.
    """
    if not COMPILED:
        return False
    import uvloop

    if not isinstance(loop, uvloop.Loop):
        return False
    library: Any = uvloop.loop
    return own.embed(library.libuv_get_loop_t_ptr(loop), library.__file__, handle)
