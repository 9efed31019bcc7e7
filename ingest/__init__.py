"""Stage 1, venue -> raw: bytes as they came, before anybody parses them.

Place in the flow: the edge to the venues' market data. Reads venue sockets and REST, `raw.instrument-<venue>` (its share
of the instruments), `raw.feed` (who else feeds them) and `derived.resync`. Writes `raw.feed`, `raw.frame` and, as the
catalogue, `raw.instrument-<venue>`.

Key: the feed, on partition slot modulo n. Order: frames of a feed are numbered from 1 without a hole under the feed's
epoch, which is the offset of its Opened. State: none that outlives the process.

Promises: every frame that was read is written once, with gaps, ticks and the end of the feed numbered in between; a tick
says that the socket was read to the end; a feed that cannot be written any more ends instead of leaving a hole.
"""
