"""lbproxy: a node-local layer-4 load balancer for the Kubernetes API servers.

The nouns, in the order to read them:

- `config.model.Config`   what was asked (and `load`, `diff` beside it)
- `balance.pool.Pool`     the servers of one proxy; `pick` gives a `Lease`
- `dial.Dial`             one client's attempts to reach a server
- `session.Session`       one client's life from accept to close
- `relay.link.Link`       two sockets and the two flows of bytes between them
- `app.App`               owns all of the above and every task

Who may do I/O: `calls`, `relay`, `sock`, `listener`, `dial`, `firstbyte`, `session` touch sockets; `balance`,
`config.model`, `config.diff` and `relay.duplex` touch nothing and take the time as an argument.
"""

__version__ = "0.1.0"
