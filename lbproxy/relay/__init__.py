"""How bytes move. Knows file descriptors, not servers.

In reading order: `duplex` (when a direction ends, what the other side is told: the table of half-close), `flow` (one
direction: copy, and splice for bulk) and `link` (two sockets and the two flows between them).

Imports net alone; proxy and handover may import it. Its table is `duplex`.
"""
