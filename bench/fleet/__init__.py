"""Thousands of nodes in virtual time: what they do to the masters when one of these dies, hangs, drains or returns.

`python -m bench.fleet` runs all of it; docs/fleet.md has what came of it, and how it is read. In reading order:

- `world`      the clock, and masters that can do so many handshakes a second
- `clients`    what runs on a node and has connections: the kubelet and its like
- `checks`     the checks of a node by lbproxy's rules
- `ours`       a node by lbproxy's rules: its own code for choice, health, eviction and rebalancing
- `peers`      a node by the rules of nginx, HAProxy and k3s, written from their sources
- `scenarios`  what happens to the masters
- `figures`    what is counted, and said of it
- `plot`       pictures
"""
