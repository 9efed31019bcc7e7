"""Derive: what is true of one instrument now.

Reads `market.event`, writes `derived.book` (Quote, Depth, Tick, Trade and Status passed on) and `derived.resync`.
One `BookTask` a partition, a pure function of it: the same log gives the same records, and what is in the log twice
changes nothing. Time is the largest receive time in the log.

Promises: a Quote names the Depth it belongs to; a book that is not LIVE shows no price; a LIVE book equals what the
venue sent; silence, gaps and contradictions are seen here and said at once. Never combines two instruments, never
talks to a venue, never reads a clock.
"""
