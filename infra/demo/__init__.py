"""The demo: both simulated venues, every stage as a process of its own, and a check of everything at the end.

options  what can be set
venues   simulated venues as one process of a run, asked over their control port
world    the demo's own: both venues with a seeded flow, and what they say of themselves
cast     the worker processes of a run
setup    configuration of the run: profiles, limits, links, all four strategies
tap      what the live view reads from the topics while the demo runs
tail     a reader that goes on whatever becomes of the servers
view     the live view (rich), or plain lines where there is no terminal
play     start, look and drain: what every run against the simulated venues has in common
stage    the demo: the order in which all of it happens
verdict  the check at the end, made of those below
scan     whole topics, read at the end
frames   venue to `raw.frame`
rows     Kafka to QuestDB
trades   orders, fills and accounts: the venues' own books against ours
budgets  what was granted against what a human allowed
capital  what each strategy, venue, market and event held against its budget, told from fills alone
payouts  what holdings pay in the worst state of approved payout tables
ending   one market that ends in the middle of the run
stops    limits that tripped and differences that were healed
desk     PostgreSQL against the venues' own books
"""
