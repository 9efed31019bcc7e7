"""The demo: both simulated venues, every stage as a process of its own, and a check of everything at the end.

options  what can be set
world    the simulated venues as a process, and their control port
cast     the worker processes of a run
setup    configuration of the run: profiles, limits, links, a strategy
tap      what the live view reads from the topics while the demo runs
view     the live view (rich), or plain lines where there is no terminal
scan     whole topics, read at the end
verdict  the check: from the venues' own truth to QuestDB
play     start, look and drain: what every run against the simulated venues has in common
stage    the demo: the order in which all of it happens
"""
