"""The contracts between stages: `<layer>/<noun>.avsc`, and the record classes generated from them.

`schemas/market/book_delta.avsc` is the Avro record `crossbook.market.BookDelta`, the registry subject of that name, and
`from schemas.market import BookDelta`. The `.avsc` is the source; `make schemas` writes the classes.
"""
