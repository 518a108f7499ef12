"""Bytes that nobody would write, for everything that reads bytes from outside.

- `target`      what a target is, and what helps to write one
- `targets`     all of them, by name: whoever adds a parser adds it there
- `opening`     what a client says first, and what a server says of itself: ClientHello, certificate, PROXY header
- `files`       configurations, lists of servers, kubeconfigs, what was found, resolv.conf
- `imported`    nginx.conf and haproxy.cfg
- `talk`        HTTP of the admin endpoint and of checks, the control socket
- `answers`     what name servers and API servers say
- `handed`      what one process says to the next, or to another one beside it
- `run`         all targets under atheris; `drive` is one of them, in a process of its own

`make fuzz SECONDS=60 [TARGET=name]` looks for what is not documented, `test_targets.py` shows some of it to each target
with every run of the tests.
"""
