"""Venue gateways: one process for one venue account.

Place in the flow: decision.order -> here -> venue -> order.event. `python -m execute --account kalshi:main`.

Reads   decision.order (Grant, Cancel, Amend, Beat) and order.event, its account's, from the beginning; derived.book,
        market.instrument, decision.jurisdiction and decision.profile for its own checks; the halt file of its machine.
Writes  order.event (Submitting, OrderUpdate, Fill, Settled, Payout, VenueReport, Alive) and order.frame, key = venue account.
State   what order.event says (`orders.py`); nothing else survives a restart, nothing else need.

Promises: the first record of any type for an order decides who may send it, so however many gateways, restarts and
repeated records there are, a venue gets one order for one Grant. Not a byte leaves after `send_by`. What may have left
and was not answered is looked up, never sent again by another process. A Cancel is repeated until the order is terminal.
Every check stands on its own, whatever decide said. `kill.py`, `flatten.py` and `direct.py` need neither Kafka nor a
gateway: keys alone.
"""
