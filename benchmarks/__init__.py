"""What Crossbook's hot paths cost, each beside its peer: `python -m benchmarks [NAME…] [--quick]`.

frames     a venue's socket to Avro records on a topic, one worker
book       order book against one made with sortedcontainers
codec      records to bytes and back against confluent's AvroSerializer and AvroDeserializer
normalize  raw frames to market events
derive     market events to quotes and depth
sign       requests and orders of both venues
path       socket to order request through all stages, each a process of its own

No figure is asserted anywhere: they depend on the machine, so every report names it.
"""
