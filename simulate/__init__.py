"""Simulated venues: Kalshi and Polymarket on loopback, speaking the venues' own REST and WebSocket protocols.

Place in the flow: outside it. `python -m simulate` is the world: ingest and execute reach it over sockets only.
`python -m simulate paper` is the order side alone, on the books of a run that follows the real venues.

Reads nothing of ours (paper: `market.instrument` and `derived.book`); writes no topic, but a truth log of its own (each frame sent, each order, fill and account), which the demo
compares with what arrived at the far end. Promises: authentication is really checked with code of its own, order books
match by price and time, cash is exact to a millionth of a dollar, errors have the bodies the venues send. What can go
wrong at a venue does on demand, by name, script or seed (`faults`), and the truth log says what each fault did.

Source: the venue pages; bodies follow the recorded responses where one exists.
"""
