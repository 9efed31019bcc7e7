"""Polymarket: a CLOB settled on Polygon, two mirrored tokens a market, prices in dollars (pUSD). See README.md."""

NAME = "polymarket"
