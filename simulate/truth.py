"""The simulators' own log of what they did: JSON lines, buffered, one file for each kind.

* `frames-<venue>.jsonl`: `[connection, ordinal, kind, key, ts_ms, sha1 | text, versions, fault]`, one line for each text
  frame sent. Ordinals of a connection count from 1 without a hole, so a record that was lost or doubled can be named;
  0 is the ordinal of a frame that a fault kept from being sent.
  - `versions`: what the frame says of books. `[v]` for a frame that speaks of one market (its `key`): v is the version
    of that market's book which a reader holds after this frame (a whole book: at v; a change: after it). A `dump` speaks
    of many: `[[key, v], …]` in the order of the books inside it. `[]`: nothing of any book.
    Polymarket states each change and book twice, once for each token; only the first token (YES, our instrument) is
    listed, as `normalize` keeps only that one. So the n-th book record that normalize makes of a frame has the n-th
    version of the line.
  - `fault`: null as a rule; `[id, did]` when a fault had to do with the frame (`id` as in `faults.jsonl`), see
    `simulate/faults.py`.
* `books-<venue>.jsonl`: `[key, version, side, price_e4, size_e6]`, one line for each change of one level of one market's
  own book in YES terms: the level's new size, 0 when it is gone; side `bid` or `ask`. Versions of a market count from 1
  without a hole; version 0 is the empty book. A market's lines up to v, applied in order, are its book at v.
* `orders.jsonl`: accepted, filled, canceled, refused; `connections.jsonl`: opened, closed;
  `edges.jsonl`: when the flow made a difference between the venues, and when it took it back;
  `accounts.json`, `books.json`, `order_ids.json`: written at the end.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from simulate.history import Change, Stated
from simulate.settings import TruthFrames

Mark = tuple[int, str]
"""The id of a fault and what it did with a frame."""
BUFFER_LINES_MAX = 20_000
"""At this many waiting lines they are written at once instead of at the next flush."""


class TruthLog:
    """Buffered writer of the truth folder."""

    def __init__(self, folder: Path, frames: TruthFrames) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.frames = frames
        self.frames_sent: dict[str, int] = {}
        self._buffers: dict[str, list[bytes]] = {}
        self._files: dict[str, BinaryIO] = {}

    # hot: once for each frame of each connection
    def frame(
        self,
        venue: str,
        connection: int,
        ordinal: int,
        kind: str,
        key: str,
        ts_ms: int,
        payload: bytes,
        stated: tuple[Stated, ...] = (),
        fault: Mark | None = None,
    ) -> None:
        """Note one text frame; ordinal 0: it was not sent."""
        if ordinal:
            self.frames_sent[venue] = self.frames_sent.get(venue, 0) + 1
        if self.frames is TruthFrames.NONE:
            return
        if self.frames is TruthFrames.DIGEST:
            shown = f'"{hashlib.sha1(payload, usedforsecurity=False).hexdigest()}"'
        else:
            shown = orjson.dumps(payload.decode(errors="replace")).decode()
        if kind == "dump":
            versions = ",".join([f'["{said.key}",{said.version}]' for said in stated])
        else:
            versions = ",".join([str(said.version) for said in stated])
        did = f'[{fault[0]},"{fault[1]}"]' if fault is not None else "null"
        line = f'[{connection},{ordinal},"{kind}","{key}",{ts_ms},{shown},[{versions}],{did}]\n'
        self._append(f"frames-{venue}.jsonl", line.encode())

    # hot: each change of each book
    def level(self, venue: str, key: str, change: Change) -> None:
        """Note one version of one market's book."""
        if self.frames is not TruthFrames.NONE:
            line = f'["{key}",{change.version},"{change.side.value}",{change.price},{change.after}]\n'
            self._append(f"books-{venue}.jsonl", line.encode())

    def note(self, kind: str, **fact: Any) -> None:
        """Note a fact of another kind (`orders`, `connections`, `edges`)."""
        fact["ts_ns"] = time.time_ns()
        self._append(f"{kind}.jsonl", orjson.dumps(fact) + b"\n")

    def write_json(self, name: str, value: Any) -> None:
        """Write a whole file at the end."""
        (self.folder / name).write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))

    def path(self, name: str) -> Path:
        """Return where a file of the log stands."""
        return self.folder / name

    def flush(self) -> None:
        """Write what is buffered."""
        for name in list(self._buffers):
            self._write(name)

    def close(self) -> None:
        """Write what is buffered and close the files."""
        self.flush()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _append(self, name: str, line: bytes) -> None:
        buffer = self._buffers.setdefault(name, [])
        buffer.append(line)
        if len(buffer) >= BUFFER_LINES_MAX:
            self._write(name)

    def _write(self, name: str) -> None:
        lines = self._buffers.get(name)
        if not lines:
            return
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = (self.folder / name).open("wb")
        file.write(b"".join(lines))
        file.flush()
        lines.clear()
