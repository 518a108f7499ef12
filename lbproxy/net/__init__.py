"""The kernel's side. Knows descriptors and nothing of proxies.

In reading order: `poller` (the one epoll set of all relayed sockets; a `Handler` is told of their events), `timers`
(for many things that mostly never fire) and `pipes` (for splice). The system calls of the hot path: `contract` says
what they promise, `plain` makes them in Python and csrc/ in C, and `syscalls` is where one of the two is chosen.
Besides: `sockets` (listening, addresses, options), `closing` (FIN and RST), `tcpinfo` (what the kernel knows of a
peer), `reasons` (what an errno says of a connection) and `bugs` (what one item of many has met stops none of the
others).

Imports the configuration's values and the errors; relay, proxy, checks, handover and process may import it. Its
tables: the errnos in `reasons`.
"""
