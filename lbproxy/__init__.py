"""lbproxy: a node-local layer-4 load balancer for the Kubernetes API servers.

The rooms, in the order to read them; the docstring of each names what is in it:

- `config/`    what was asked: a file, as values
- `balance/`   who gets a connection, and what is believed of each server; pure
- `net/`       the kernel's side: the epoll set, timers, system calls, sockets
- `relay/`     how bytes move between two sockets
- `proxy/`     one proxy at work: clients from accept to close
- `checks/`    is a server well, and where is it
- `sources/`   servers that are found, beside those of the file
- `status/`    what lbproxy shows of itself, and how it is asked
- `handover/`  live connections on their way to the next process
- `workers/`   several processes that serve as one proxy
- `process/`   the process around it all
- `demo/`      `lbproxy demo`
- `importer/`  `lbproxy import`

and what belongs to none of them: `cli` (the command line, with its `arguments`, `look` and `change`: the commands that
show and that change something, `whereabouts`: which daemon is meant, and `completion`: what a shell completes), `check`
(a file, judged as the service will), `errors` (what is raised), `tasks` (the one owner of asyncio tasks), `threads`
(what cannot be asked without waiting), `warnonce` (a complaint that is made once), `record` (values with named fields)
and `form` (whether this is the compiled form).

One connection's life is told by `proxy.session`, `proxy.search` and `relay.link`, in this order. ARCHITECTURE.md has
the picture, and why things are as they are.
"""

__version__ = "0.1.0"
