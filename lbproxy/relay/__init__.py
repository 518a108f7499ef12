"""How bytes move. Knows file descriptors, not servers.

In reading order: `table` (of a machine), `duplex` (when a direction ends, what the other side is told: the table of
half-close), `mode` (by copy or by splice, and what is held: a table too), `flow` (one direction of a connection),
`bulk` (its part by splice) and `link` (two sockets and the two flows between them).

Imports net alone; proxy and handover may import it. Its tables: `duplex`, `mode`, and the states of a `Link`.
"""
