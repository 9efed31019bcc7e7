"""Observe: beside the flow, reads everything, writes no topic but its own dead letters.

Reads:    market.*, derived.*, decision.*, order.* and the feeds of raw.feed (not raw.frame).
Writes:   QuestDB, one table a record type, and `dead.observe` for rows it will never take; PostgreSQL, the desk's tables
          (tickets, fills, positions, audit, marks, performance).
Order:    none needed in QuestDB; in PostgreSQL that of `order.event` within an account. State: none in the process.
Promises: QuestDB: an offset is committed only after it has acknowledged the rows before it, and a row written twice is
          one row (dedup keys). PostgreSQL: exactly once, an offset moves in the transaction that writes its rows.
          A server down: nothing is read meanwhile, the sink catches up after. If all of observe is down, trading does
          not notice.

Run `python -m observe questdb`, `python -m observe postgres`.
"""
