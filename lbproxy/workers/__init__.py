"""Several processes that serve as one proxy (`workers: N`): a supervisor, which carries nothing, and N workers.

In reading order: `supervisor` is the data plane, seen from outside. It has a `leader` (servers, names and checks) and a
`crew` of workers, each a `member`. From inside, a `worker` has a `follower` for a data plane; what the two ends say is
in `wire`. Workers are born in a `nursery`, as many as `cpus` says, and count together on a `board`. `estate` holds what
they keep for whoever comes next, `handing` hands it over; `figures` shows them as one, with `totals` that never fall.

Only `process.start` may import this. It knows the data plane of one process (`process.app`), and no configuration file.
"""
