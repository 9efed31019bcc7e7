"""Chaos: a demo under load while faults are injected and workers and servers are killed or frozen, judged by two oracles.

options       what can be set
plan          what is done when, drawn from the seed before anything starts
hands         does it: signals to processes, faults at the venues' control port
watch         what a reader sees meanwhile: books usable or not, workers answering or not
matching      which frame of which feed is which line of the venues' truth
truth         oracle (a): every book marked LIVE against the venue's own book at that point of the feed
conservation  oracle (b): every frame, order event and fill in QuestDB exactly once; venues and ledger agree
trust         no order on a book that was not LIVE and usable
recovery      how long each fault was felt
page, report  chaos.json and chaos.html
stage         the order in which all of it happens
"""
