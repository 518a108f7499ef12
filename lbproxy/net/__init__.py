"""The kernel's side: one epoll set, timers, system calls and sockets. Knows descriptors and nothing of proxies."""
