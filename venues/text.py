"""Text of any venue to values: typed JSON, times. Numbers are turned into integers in each venue's `wire.py`."""

import re
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from core.domain.errors import MalformedFrame

T = TypeVar("T")

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_EXCERPT_CHARS = 160
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def decode(decoder: "msgspec.json.Decoder[T]", payload: bytes | msgspec.Raw, what: str) -> T:
    """Return `payload` as the decoder's type.

    Raises:
        MalformedFrame: not JSON, a missing field, a wrong type; the message names `what`, the field, and an excerpt.
    """
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise MalformedFrame(f"{what}: {e}, in {excerpt(bytes(payload))!r}") from e


def excerpt(payload: bytes) -> str:
    """Return the beginning of a payload for a message; never call it on what holds a secret."""
    return payload[:_EXCERPT_CHARS].decode("utf-8", "replace")


def scalar_text(raw: msgspec.Raw) -> str:
    """Return the text of a JSON scalar that venues write as string or as number; `""` for absent and null.

    A number keeps its digits as written: it never passes through a float.

    Raises:
        MalformedFrame: an object, an array or a boolean.
    """
    data = bytes(raw)
    if not data or data == b"null":
        return ""
    head = data[:1]
    if head == b'"':
        return decode(_STRING, data, "a text")
    if head in b"{[tf":
        raise MalformedFrame(f"expected a text or a number, found {excerpt(data)!r}")
    return data.decode()


_STRING = msgspec.json.Decoder(str)


def instant_ns(text: str, where: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time (also with a space, and without a zone: UTC); 0 for `""`.

    Raises:
        MalformedFrame: anything else, or a date that does not exist.
    """
    if not text:
        return 0
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise MalformedFrame(f"{where}: expected an RFC 3339 time, found {text[:40]!r}")
    try:
        whole = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError as e:
        raise MalformedFrame(f"{where}: {text!r}: {e}") from e
    seconds = (whole - _EPOCH) // _SECOND - _offset_s(match.group(8))
    return seconds * NS_PER_S + int((match.group(7) or "0").ljust(9, "0"))


def _offset_s(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or "0")
    return minutes * (-60 if zone[0] == "-" else 60)
