"""The process around it all.

In reading order: `start` turns a file, a predecessor and descriptors from systemd into a running `daemon`, whose life
is the table in `phases`, and which `commands` let an operator use. It has a `dataplane`: an `app`, or with
`workers: N` a `supervisor` of `worker` processes, spoken to over a `wire`. `reload` watches the file and replaces the
configuration; `systemd` is told how things stand, `log` says so to people, and `identity` is who this node is.

Only the command line may import this; it may import everything.
"""
