"""Stage 1, venue -> raw: bytes as they came, before anybody parses them.

Place in the flow: the edge to the venues' market data. Reads venue sockets and REST, `raw.instrument-<venue>` (its share
of the instruments), `raw.feed` (who else feeds them) and `derived.resync`. Writes `raw.feed`, `raw.frame` and, as the
catalogue, `raw.instrument-<venue>`.

Key: the feed, on partition slot modulo n. Order: frames of a feed are numbered from 1 without a hole under the feed's
epoch, which is the offset of its Opened. State: none that outlives the process.

Promises: every frame that was read is written once, with gaps, ticks, REST books and the end of the feed numbered in
between; a tick says that the socket was read to the end; a feed that cannot be written any more ends instead of leaving a
hole. A successor is ready before its predecessor is closed. What is polled by REST says so and is never LIVE.

Who decides what: `kalshi`/`polymarket` what a protocol asks for, `plan` which feeds a share needs, `succession` which feed
follows which, `renewal` how often, `degraded` what is polled while no socket can be had, `audit` what is looked at beside
the streams, `host` whether a host is asked at all.
"""
