"""The process around it all.

In reading order: `start` turns a file, a predecessor and descriptors from systemd into a running `daemon`, whose life
is the table in `phases`, and which `commands` let an operator use. It has a `dataplane`: an `app`, or what is in
`workers`. `reload` replaces the configuration when `watch` says that the file has changed, `following` adds the servers
that are found; `access` is how operators reach it all, `absent` keeps trying addresses that this machine does not have
yet; `systemd` is told how things stand, `log` says so to people through `output` and keeps `events`, which are a part
of the `legacy` of the next process, `usage` is what it takes, `identity` who this node is.

Only the command line may import this; it may import everything.
"""
