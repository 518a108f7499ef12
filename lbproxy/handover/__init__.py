"""Live connections on their way to the next process: at an upgrade, a restart, a crash.

In reading order: a `parcel` is one connection in transit, an `fdqueue` carries many; `revive` makes parcels of sessions
and sessions of parcels. `marks` say in shared memory whose bytes a process has in its hands, and a `keeper` has
systemd hold all of it (its table: what a process that was killed leaves behind). `inherit` makes sense of what was
left, `sets` of what several processes have. `custody` is the whole for one process, from taking over to leaving;
`handing` is what a handover asks of one process or several. An upgrade is `steps` (the table), the `messages` said,
`upgrade` for the old process and `takeover` for the new one.

Only `process` and `workers` may import this. It knows proxies and sessions, and neither configuration files nor
systemd's protocol.
"""
