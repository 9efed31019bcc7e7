"""The simulators' own log of what they did: JSON lines, buffered, one file for each kind.

* `frames-<venue>.jsonl`: `[connection, ordinal, kind, key, ts_ms, sha1 | text]`, one line for each text frame sent.
  Ordinals of a connection count from 1 without a hole, so a record that was lost or doubled can be named.
* `orders.jsonl`: accepted, filled, canceled, refused; `connections.jsonl`: opened, closed;
  `edges.jsonl`: when the flow made a difference between the venues, and when it took it back;
  `accounts.json`, `books.json`, `order_ids.json`: written at the end.
"""

import hashlib
import time
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from simulate.settings import TruthFrames

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
    def frame(self, venue: str, connection: int, ordinal: int, kind: str, key: str, ts_ms: int, payload: bytes) -> None:
        """Note one sent text frame."""
        self.frames_sent[venue] = self.frames_sent.get(venue, 0) + 1
        if self.frames is TruthFrames.NONE:
            return
        if self.frames is TruthFrames.DIGEST:
            digest = hashlib.sha1(payload, usedforsecurity=False).hexdigest()
            line = f'[{connection},{ordinal},"{kind}","{key}",{ts_ms},"{digest}"]\n'.encode()
        else:
            line = orjson.dumps([connection, ordinal, kind, key, ts_ms, payload.decode()]) + b"\n"
        self._append(f"frames-{venue}.jsonl", line)

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
