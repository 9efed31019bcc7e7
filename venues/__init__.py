"""What each venue says and allows: wire types, signing, limits, tick and fee rules. Pure: no socket, no clock, no thread.

One folder a venue, the same module names in each:

* `wire.py`    what its sockets say about markets, and the only place where its text becomes integers;
* `control.py` what we say on its sockets;
* `rest.py`    its public REST bodies;
* `account.py` what it says about an account, on sockets and over REST;
* `orders.py`  what we send about orders, and how it refuses;
* `auth.py`    signing, and the checks a simulated venue does;
* `rules.py`   ticks, minimums, fees, collateral, rate limits;
* `hosts.py`   endpoints by environment, and which of them take orders.

Scales: prices at 1e-4 dollar, sizes and money at 1e-6, times in nanoseconds since the epoch (0: not stated).
"""

VENUES = ("kalshi", "polymarket")
"""Names of the venues, as they stand in settings, topics and instrument ids."""
