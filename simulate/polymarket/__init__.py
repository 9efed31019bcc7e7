"""The simulated Polymarket: CLOB REST, Gamma REST, WebSockets `/ws/market` and `/ws/user`.

`auth` checks signatures, `amounts` the order arithmetic, `market` keeps books and hashes, `ledger` accounts, `exchange`
matches and settles, `clob`, `gamma` and `stream` speak.

Source: docs.polymarket.com as of 2026-11 (the venue page of this project); bodies as captured where a capture exists.
"""
