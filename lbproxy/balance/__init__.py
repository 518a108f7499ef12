"""Who gets a connection. Pure: no clock, no socket, no log; time comes in as an argument.

In reading order: `pool` (the servers of one proxy; `pick` gives a `Lease`) and `rotation` (whose turn it is among
equals); `group` (what is configured under one name: a server for each address), `server` (one of them) and `counts`
(what is counted of all); what is believed of it: `evidence` (what is evidence of what), `state` (the words for it),
`checked` (what checks say), `suspicion` (what clients have met), `health` (the worse of both, and its changes);
`histogram` (how long things took); `shared` (counts that several processes keep together).

Imports the configuration's values and nothing else; everybody who deals with servers may import it. Its tables: the
tiers in `pool`, what is seen in `evidence`, the transitions in `checked` and in `suspicion`.
"""
