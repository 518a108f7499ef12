"""Servers that are found: who names them, and what is made of an answer.

- `found`       what an answer may say, and a configuration with what was found in it; pure
- `kept`        what was found, on disk, for a start without a network
- `files`       servers from files
- `srv`         a question for SRV records, and its answer; pure
- `dns`         servers from name servers
- `slices`      the EndpointSlices of a service, from a list and what a watch says; pure
- `kubeconfig`  who asks Kubernetes, and whom it trusts
- `api`         one request to an API server, and its answer as it comes
- `kubernetes`  servers from the API server itself, watched through the proxy

Each of `files`, `dns` and `kubernetes` has a `follow` that runs until it is cancelled, and tells a `Listener`. None of
this is imported where no proxy has `servers_from`.
"""
