"""A simulated world: lbproxy's data plane runs unchanged on a kernel in memory, and one seed decides all that happens.

    python -m tests.sim --seeds 2000          or `make simulate SEEDS=2000`
    python -m tests.sim --seed 17             one of them again, with its story

In reading order: `kernel` (time, files, processes and epoll sets), `tcp` (connections with buffers, windows, latency,
FIN and RST), `files` (pipes, memory files, queues that carry descriptors), `calls` (the system calls that
`lbproxy.net.syscalls` would make, made there), `shims` (what goes past that module) and `install`; `loop` (an event
loop in virtual time), `talk` (what is said on a connection), `servers` and `clients` of every kind, `host` (one lbproxy
process), `world` (a seed becomes a story: who comes, what fails, what the operator does), `rules` (what must hold,
always and in the end) and `run`.

What is real: the poller, links and flows, sessions and their search, dials, choice, health, reactions, rebalancing,
the keeper with its marks and queues, parcels, custody; the answers of checks are taken in by the real door. What is
not: sockets, time, the streams of the checks, names, uvloop and the process around it all (`process/`), and the
compiled form, since nothing can be put in the place of its calls in C. What Linux does that this kernel does not is
said in `tcp`; tests/sim/test_kernel.py runs the same programs on both.
"""
