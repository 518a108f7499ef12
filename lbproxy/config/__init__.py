"""What was asked: a file, as values.

In reading order: `model` (every key, its default, its limits and what it is for); `load` (a file to a `Config`, or to
every problem in it), which goes from text to `nodes` that know their line, from nodes to values by `scalars` and
`address`, over what must hold between keys in `rules`, and collects problems in a `report`; `found` (a server that the
file does not name); `diff` (two configurations to what has to be done to get from one to the other); `schema` (the
model for editors).

`model` may be imported by all, the rest by `process` and `cli` alone; it imports only the errors that it raises. Its
table is `model`: whoever adds a key adds it there.
"""
