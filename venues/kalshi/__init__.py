"""Kalshi: a US exchange for event contracts, one book a market, prices in dollars of YES. See README.md."""

NAME = "kalshi"
