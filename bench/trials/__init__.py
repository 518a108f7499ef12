"""Failure trials: a node and three masters in network namespaces, one of them failing, and what the clients notice.

    master      the stand-in for an API server, a process of its own, settable while it runs
    clients     new connections at a pace, and held ones that reconnect; every one on record
    stage       the place: namespaces, masters, a proxy on the node, clients
    results     what a trial has measured, and the rules it is held to
    arrivals    trials of new connections        (each module: functions from a scene to a result)
    holding     trials of established connections
    outages     trials of all masters at once, or one after the other
    listing     all trials with their rules

`python -m bench.trials` measures lbproxy, nginx and HAProxy; tests/live/test_masters.py holds lbproxy to the rules.
"""
