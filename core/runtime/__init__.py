"""The Kafka runtime: topics, codec, producer, consumers, and the three loops a process may run.

* `task`: one log in, pure `handle`, publish, commit after acknowledgement.
* `sequencer`: several topics into one log, in the order and with the time its task is to see.
* `edge`: asyncio around the same producer, for what talks to the outside world.

`flow` holds the values that cross between a pure task and these loops; it touches no client library.
"""
