"""What each venue says and allows: wire types, authentication, limits, tick and fee rules. Pure: no socket, no clock."""

VENUES = ("kalshi", "polymarket")
