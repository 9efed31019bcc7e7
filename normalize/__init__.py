"""Normalize: the venue's words become ours.

Reads `raw.frame` and `raw.instrument-<venue>`, writes `market.event` and `market.instrument`. A NO bid becomes a YES
ask, a venue's two mirrored tokens become one book, text becomes integers, and every record says which frame of which
feed it came from. Remembers nothing that a restart would miss: a frame alone says what follows from it.

Promises: what cannot be read is dead-lettered with the reason, after the books it could have changed were reset; what
is merely unknown is counted. Never drops a change silently, never guesses a number, never looks at another frame.
"""
