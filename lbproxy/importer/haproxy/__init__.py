"""haproxy.cfg: from text to what it means.

In reading order: `file` (text to sections and lines), `scope` (what holds for a section, with its defaults), `main`
(frontends with their backends), `bind` (where they listen), `server` (servers and their options), `check` (how they
are checked), `needless` (what needs no key).
"""
