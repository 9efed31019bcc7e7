"""Links between instruments: what descriptions say (`terms`), which belong together (`match`), what a human decides (`desk`).

Reads `market.instrument`, `raw.instrument-<venue>` and `decision.link`; writes `decision.link` when a human says so.
"""
