"""`lbproxy demo`: three small servers and a real `lbproxy run` in front of them, on free loopback ports.

- `run`        the demo from its start to its end: what is shown when, and what a key does
- `processes`  its children: the servers and the proxy
- `server`     one of the servers, as a program
- `clients`    the traffic that it makes itself
- `terminal`   the keys

It uses of lbproxy what anybody may: the command, the control socket, the text of `lbproxy status`. Only `cli` imports
it.
"""
