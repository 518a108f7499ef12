"""A soak: all that can happen to lbproxy at once, over and over; what it costs is sampled, what it promises is checked.

In the order to read them: `plan` (what happens when), `server` (one of the servers), `servers` (which are killed and
hung), `streams` and `visits` (clients that check), `hostile` (clients that do not care), `targets` (the two lbproxys
that are soaked), `samples` (what they use), `causes` (who has ended a connection), `verdict`, `plot`, `soak`.
"""
