"""Avro encoders made from schemas: one straight-line function a record type instead of a walk over its schema.

fastavro asks the schema at every field what to write; here that is asked once, when the function is made, as dataclasses
make theirs. Numbers go through tables of two groups of seven bits. The bytes are fastavro's (tests/runtime/test_avro.py);
a benchmark against confluent's serializer is `benchmarks/codec.py`. Decoding stays with fastavro: taking bytes apart in
Python gains nothing on records with many numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from core.domain.errors import Misconfigured

Encoder = Callable[[Any, int], bytes]
"""Takes a record and a stamp for its trail (0: none) and returns the bytes."""

MEMO_MAX = 65_536
"""Numbers of arrays (prices and sizes, which repeat) whose bytes are kept; then all are forgotten."""

_GROUPS = 1 << 14
_MASK = _GROUPS - 1
_CONTINUED = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(_GROUPS)]
"""Two groups of seven bits of which more follow."""
_LAST = [bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(_GROUPS)]
"""The last two groups, without a leading zero."""
_SMALL = [_LAST[n << 1] for n in range(_GROUPS >> 1)]
"""Numbers from 0, zigzagged."""


class _High(dict[int, bytes]):
    """The last groups of large numbers, which times share for half an hour."""

    def __missing__(self, high: int) -> bytes:
        if high >= 1 << 22:
            raise OverflowError("a number does not fit 64 bits")
        if len(self) >= MEMO_MAX:
            self.clear()
        found = self[high] = _LAST[high] if high < _GROUPS else _CONTINUED[high & _MASK] + _LAST[high >> 14]
        return found


_HIGH = _High()


# hot
def long(number: int) -> bytes:
    """Return a number of 64 bits: zigzag, seven bits a byte, least first.

    Raises:
        OverflowError: it needs more.
    """
    n = number << 1 if number >= 0 else ~(number << 1)
    if n < 1 << 14:
        return _LAST[n]
    if n < 1 << 28:
        return _CONTINUED[n & _MASK] + _LAST[n >> 14]
    if n < 1 << 42:
        return _CONTINUED[n & _MASK] + _CONTINUED[n >> 14 & _MASK] + _LAST[n >> 28]
    return _CONTINUED[n & _MASK] + _CONTINUED[n >> 14 & _MASK] + _CONTINUED[n >> 28 & _MASK] + _HIGH[n >> 42]


class _Memo(dict[int, bytes]):
    """Bytes of numbers that repeat."""

    def __missing__(self, number: int) -> bytes:
        if len(self) >= MEMO_MAX:
            self.clear()
        found = self[number] = long(number)
        return found


_known = _Memo().__getitem__


def _longs(items: Sequence[int]) -> bytes:
    if not items:
        return b"\0"
    return long(len(items)) + b"".join(map(_known, items)) + b"\0"


def _times(items: Sequence[int], stamp: int) -> bytes:
    """Return the trail with its stamp; times hardly repeat."""
    if stamp:
        return long(len(items) + 1) + b"".join(map(long, items)) + long(stamp) + b"\0"
    return long(len(items)) + b"".join(map(long, items)) + b"\0" if items else b"\0"


def _array(items: Sequence[Any], encode: Callable[[Any], bytes]) -> bytes:
    if not items:
        return b"\0"
    return long(len(items)) + b"".join(map(encode, items)) + b"\0"


def _data(value: bytes) -> bytes:
    return long(len(value)) + value


def _text(value: str) -> bytes:
    data = value.encode()
    return long(len(data)) + data


class _Symbols(dict[str, bytes]):
    def __missing__(self, word: str) -> bytes:
        raise ValueError(f"{word!r} is not one of {', '.join(self)}")


class _Source:
    """The text of one function and the names it uses."""

    def __init__(self) -> None:
        self.enums: dict[str, _Symbols] = {}
        self.names: dict[str, Any] = {
            "_SMALL": _SMALL,
            "long": long,
            "_longs": _longs,
            "_times": _times,
            "_array": _array,
            "_data": _data,
            "_text": _text,
        }
        self.lines: list[str] = []

    def name(self, value: Any) -> str:
        """Return a name for a value."""
        found = f"_{len(self.names)}"
        self.names[found] = value
        return found

    def parts(self, avro: Any, value: str) -> list[str]:
        """Return expressions of bytes that together write `value`."""
        if isinstance(avro, dict):
            match avro["type"]:
                case "enum":
                    name = f"{avro.get('namespace', '')}.{avro['name']}"
                    self.enums[name] = _Symbols({word: long(n) for n, word in enumerate(avro["symbols"])})
                    return self.parts(name, value)
                case "array":
                    return [self._array(avro["items"], value)]
                case "record":
                    return [f"{self.name(self.record(avro))}({value}, 0)"]
                case kind:
                    return self.parts(kind, value)
        match avro:
            case "long":
                return [f"long({value})"]
            case "int":
                return [f"(_SMALL[v] if 0 <= (v := {value}) < {len(_SMALL)} else long(v))"]
            case "boolean":
                return [f"(b'\\x01' if {value} else b'\\x00')"]
            case "string":
                return self._sized(f"{value}.encode()")
            case "bytes":
                return self._sized(value)
        if avro in self.enums:
            return [f"{self.name(self.enums[avro])}[{value}]"]
        raise Misconfigured(f"core/runtime/avro.py cannot write {avro}: teach it, or use another type in the schema")

    def _sized(self, value: str) -> list[str]:
        local = f"d{len(self.lines)}"
        self.lines.append(f"    {local} = {value}")
        return [f"(_SMALL[n] if (n := len({local})) < {len(_SMALL)} else long(n))", local]

    def _array(self, items: Any, value: str) -> str:
        if items == "long":
            return f"_longs({value})"
        if items in ("string", "bytes"):
            return f"_array({value}, {'_text' if items == 'string' else '_data'})"
        return f"_array({value}, {self.name(_alone(self.record(items)))})"

    def record(self, schema: dict[str, Any]) -> Encoder:
        """Return the encoder of a nested record."""
        inner = _Source()
        inner.enums = self.enums
        return inner.made(schema, b"")

    def made(self, schema: dict[str, Any], prefix: bytes) -> Encoder:
        """Return the encoder of a record whose bytes begin with `prefix`."""
        parts = [repr(prefix)] if prefix else []
        for one in schema["fields"]:
            if one["name"] == "trail":
                parts.append("_times(r.trail, stamp)")
            else:
                parts += self.parts(one["type"], f"r.{one['name']}")
        text = "\n".join(("def encode(r, stamp):", *self.lines, f"    return b''.join(({', '.join(parts)},))"))
        exec(text, self.names)  # noqa: S102 - the text is made here, from the schemas of this checkout
        made: Encoder = self.names["encode"]
        return made


def _alone(encode: Encoder) -> Callable[[Any], bytes]:
    return lambda record: encode(record, 0)


def encoder_of(schema: dict[str, Any], prefix: bytes) -> Encoder:
    """Return the encoder of a record schema; its bytes begin with `prefix`.

    It raises ValueError for a word an enum does not have and OverflowError for a number beyond 64 bits.
    """
    return _Source().made(schema, prefix)
