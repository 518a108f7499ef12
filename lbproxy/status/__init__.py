"""What lbproxy shows of itself, and how it is asked.

In reading order: `snapshot` (how everything is, as values) and its forms: `shapes` (the JSON that programs read, as
types), `render` (that JSON), `text` (for a terminal, in a `table` that fits the `screen`, with the `owners` of
connections), `page` (for a browser), `metrics` (Prometheus, whose library `exposition` wraps). The HTTP endpoint is
`admin`, with its `pages`, made in `slices`, and `http` (with one client). The control socket is `commands` (what may be
asked, for both ends), `client` (the end that asks), `enough` (that asks until it likes the answer) and `control` (the
end that answers); `onlookers` is where those ask who may only look. `serving` is what admin and control share.

`snapshot` may be imported by all who have something to show, the rest by `process`, `demo` and `cli`. Of the others
it knows the words for a server's state and the form of a histogram. Its table stands at the end of `commands`.
"""
