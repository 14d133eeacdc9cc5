"""What a person sees: jobs and a moment come in, text, markup or a table comes out.

Nothing here knows a store, a queue or IPython, so that a view can be tested with three jobs made
by hand and shown by any door. The rules here: time is an argument; a text that a person or a
program has written passes through `words.clean` before it is shown; nothing is told by colour
alone; and pandas is imported when a frame is asked for, not before.
"""
