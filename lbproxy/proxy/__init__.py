"""One proxy at work: clients from accept to close.

In reading order: `proxies` (all there are), `proxy` (one: its listeners, its servers, new settings), `listener` (the
accept loop and the limit of descriptors), `sessions` (the connections of a proxy), `session` (one of them), `phases`
(how far it has come); its way to a server: `search`, `dial` (connects), `firstbyte` (what is said before the server's
first byte), `clienthello` (what may be said twice), `proxy_protocol`. What all of them know of the servers is
`backend`; what becomes of connections when something happens to their server is `reaction`, with `evict` and
`rebalance`; `vitals` asks the kernel whether the servers are still there, and `circles` finds one that leads back here;
`views` is what is shown of it all, and `crew` one proxy in several processes: who decides, and how others hear of it.

Imports net and relay for the bytes, balance for the choice, and status.snapshot; checks know its backend, handover and
process all of it. Its table stands in `phases`.
"""
