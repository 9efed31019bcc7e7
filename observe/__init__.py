"""Observe: beside the flow, reads everything, writes no topic but its own dead letters.

Reads:    market.*, derived.*, decision.*, order.* and the feeds of raw.feed (not raw.frame).
Writes:   QuestDB, one table a record type; `dead.observe` for rows QuestDB will never take.
Order:    none needed. State: none.
Promises: an offset is committed only after QuestDB has acknowledged the rows before it, and a row written twice is
          one row (dedup keys). QuestDB down: the batch is kept, nothing is read meanwhile, the sink catches up after.
          If all of observe is down, trading does not notice.

Run `python -m observe questdb`.
"""
