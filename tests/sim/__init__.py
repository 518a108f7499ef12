"""A simulated world: lbproxy's data plane runs unchanged on a kernel in memory, and one seed decides all that happens.

    python -m tests.sim --seeds 2000          or `make simulate SEEDS=2000`
    python -m tests.sim --seed 17             one of them again, with its story

In reading order: `kernel` (time, files, processes and epoll sets), `tcp` (connections with buffers, windows,
latency, FIN and RST), `network` (who listens, how connections are made, hosts that fall silent), `files` (pipes,
memory files, queues that carry descriptors), `calls` (the system calls that `lbproxy.net.syscalls` would make, made
there), `shims` (what goes past that module) and `install`; `loop` (an event loop in virtual time), `talk` (what is
said on a connection), `servers` and `clients` of every kind, `host` (one lbproxy process) and `monitor` (checks and
names), `story` (what a seed decides), `operations` (what the operator, the machine and a killer do to lbproxy),
`world` (in which the story is told), `rules` (what must hold, always and in the end), `run`, and `mutations` (does
it see faults?).

What is real: the poller, links and flows, sessions and their search, dials, choice, health, reactions, rebalancing,
the keeper with its marks and queues, parcels, custody; the answers of checks and of look-ups are taken in by the
real door. What is not: sockets, time, the streams of the checks, the name server, uvloop and the process around it
all (`process/`), several workers (`workers/`: what they can do to each other lies between two instructions, and a
process here is interrupted only at system calls and, by SIGKILL, at writes to shared memory), and the compiled form,
since nothing can be put in the place of its calls in C. What Linux does that this kernel does not is said in `tcp`;
tests/sim/test_kernel.py runs the same programs on both.
"""
