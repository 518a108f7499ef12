"""`lbproxy import`: the configuration of nginx or HAProxy, as a file of lbproxy's own. The daemon knows nothing of it.

In reading order: `convert` (a file to a text, or to what is wrong with it) finds out whose file it is; `source` reads
what is text, and `directive` is what it consists of; `nginx` and `haproxy` each read one grammar and say what a
directive of it means; `units` is how they write times; `draft` is what has been found so far, and `write` makes the
text of it.

Every directive has one of three fates: it becomes a value, it needs none, or it has no counterpart. The first two stand
in comments of the text, the third is told to whoever asked. What nobody has given a fate is found in the end
(`Draft.sweep`), so that nothing is dropped in silence.
"""
