"""The live table: jobs in a browser as they are now, and buttons that work while a cell runs.

The browser owns the view: what is shown, sorted, searched, and every clock. The kernel owns the
truth and says only what changed. `wire` turns jobs into columns, `tails` reads what they print and
`searching` finds words in it, `table` is the widget, `pusher` the one thread that sends, `road` a
second way in for a kernel that is busy, and `browser/` what runs in the page: a few plain modules
that `assets` lays end to end into one, with no build step.

The rules here: an unwatched table sends nothing; a watched one at most ten messages a second, each
with a number, so that a gap is seen and mended; a request names itself, so that it may arrive
twice; and nothing is imported before a table is made: `%load_ext` must stay quick.
"""
