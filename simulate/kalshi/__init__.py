"""The simulated Kalshi: REST `/trade-api/v2`, WebSocket `/trade-api/ws/v2`.

`auth` checks signatures, `fees` computes them, `ledger` holds accounts, `exchange` matches and reports, `rest` and
`stream` speak.

Source: docs.kalshi.com as of 2026-10 (the venue page of this project); bodies as recorded on the demo environment.
"""
