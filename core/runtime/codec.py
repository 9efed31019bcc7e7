"""Records to bytes and back: Avro in Confluent's wire format (`0x00`, 4-byte schema id, body).

The interface is `encode(record) -> bytes` and `decode(bytes) -> record`. Encoders are made from the schemas
(`core/runtime/avro.py`), fastavro decodes; a compiled codec can take the place of both without a caller noticing.

Ids come from a registry: a writer looks its schemas up once, a reader fetches an unknown id once. A body written with an
older or newer schema of the same name is resolved into the reader's.
"""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import fastavro
import msgspec
from fastavro import parse_schema, schemaless_reader

from core.domain.errors import MalformedFrame, Misconfigured, Unavailable, UnknownSchema
from core.runtime.avro import Encoder, encoder_of
from schemas.record import Record, record_types, schema_texts

MAGIC = 0
PREFIX_BYTES = 5
PATIENCE_S = 120.0
"""How long a reader that must keep its order waits for the registry."""
_TIMEOUT_S = 5.0
_PAUSE_S = 0.1
_PAUSE_S_MAX = 2.0
FoundT = TypeVar("FoundT")


class Registry(Protocol):
    """What the codec asks of a schema registry."""

    def id_of(self, subject: str, text: str) -> int:
        """Return the id of a registered schema.

        Raises:
            Misconfigured: it is not registered.
            Unavailable: the registry does not answer.
        """
        ...

    def text_of(self, schema_id: int) -> str:
        """Return the schema text of an id.

        Raises:
            UnknownSchema: there is none.
            Unavailable: the registry does not answer.
        """
        ...


class HttpRegistry:
    """A Confluent-compatible registry over HTTP (Apicurio's ccompat API, Confluent's own, Karapace)."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def id_of(self, subject: str, text: str) -> int:
        try:
            return int(self._call("POST", f"/subjects/{subject}", {"schema": text})["id"])
        except urllib.error.HTTPError as e:
            raise Misconfigured(
                f"schema {subject} of this version is not registered at {self._url}: run `make dev-stack`"
            ) from e

    def text_of(self, schema_id: int) -> str:
        try:
            return str(self._call("GET", f"/schemas/ids/{schema_id}")["schema"])
        except urllib.error.HTTPError as e:
            raise UnknownSchema(f"schema id {schema_id} is not known to {self._url} (HTTP {e.code})") from e

    def register(self, subject: str, text: str) -> int:
        """Register a schema under `subject` and return its id.

        Raises:
            Misconfigured: the registry refuses it as incompatible.
            Unavailable: the registry does not answer.
        """
        try:
            return int(self._call("POST", f"/subjects/{subject}/versions", {"schema": text})["id"])
        except urllib.error.HTTPError as e:
            detail = e.read().decode(errors="replace")[:500]
            raise Misconfigured(f"registry refuses {subject} (HTTP {e.code}): {detail}") from e

    def set_compatibility(self, subject: str, level: str) -> None:
        """Set the compatibility rule of one subject."""
        try:
            self._call("PUT", f"/config/{subject}", {"compatibility": level})
        except urllib.error.HTTPError as e:
            raise Misconfigured(f"registry refuses compatibility {level} for {subject} (HTTP {e.code})") from e

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the address is a setting, http on loopback by default
            self._url + path,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                parsed: dict[str, Any] = json.loads(answer.read())
                return parsed
        except urllib.error.HTTPError as e:
            if e.code >= 500:
                raise Unavailable(f"schema registry {self._url} answers HTTP {e.code}") from e
            raise
        except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
            raise Unavailable(f"schema registry {self._url} does not answer ({e}): is the stack up?") from e


class FileRegistry:
    """The schemas of this checkout with ids in their stable order: for tests without a server."""

    def __init__(self) -> None:
        self._texts = dict(enumerate(schema_texts().values(), start=1))
        self._ids = {name: number for number, name in enumerate(schema_texts(), start=1)}

    def id_of(self, subject: str, text: str) -> int:
        number = self._ids.get(subject)
        if number is None or self._texts[number] != text:
            raise Misconfigured(f"schema {subject} is not one of this checkout")
        return number

    def text_of(self, schema_id: int) -> str:
        try:
            return self._texts[schema_id]
        except KeyError as e:
            raise UnknownSchema(f"schema id {schema_id} is not known to this checkout") from e


class Codec:
    """Encodes and decodes records of every layer; schema ids are cached for the life of the process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._writers: dict[type[Record], Encoder] = {}
        self._readers: dict[bytes, Callable[[bytes], Record]] = {}
        self._names: dict[bytes, str] = {}
        self._texts: dict[bytes, str] = {}

    # hot: every record of every stage (benchmarks/codec.py)
    def encode(self, record: Record, stamp_ns: int = 0) -> bytes:
        """Return the record's bytes; a `stamp_ns` is appended to its trail on the way."""
        kind = type(record)
        writer = self._writers.get(kind)
        if writer is None:
            writer = self._writers[kind] = self._new_writer(kind)
        return writer(record, stamp_ns)

    # hot: every record of every stage (benchmarks/codec.py)
    def decode(self, data: bytes) -> Record:
        """Return the record in `data`.

        Raises:
            MalformedFrame: not Confluent's wire format, or a body its schema does not describe.
            UnknownSchema: nobody knows the schema id, or no reader knows the record type.
            Unavailable: the id is new and the registry does not answer.
        """
        prefix = data[:PREFIX_BYTES]
        reader = self._readers.get(prefix)
        if reader is None:
            reader = self._readers[prefix] = self._new_reader(prefix)
        return reader(data)

    def record_name(self, data: bytes) -> str:
        """Return the full name of the record type in `data` without decoding its body."""
        prefix = data[:PREFIX_BYTES]
        name = self._names.get(prefix)
        if name is None:
            schema = json.loads(self.schema_text(data))
            name = self._names[prefix] = f"{schema['namespace']}.{schema['name']}"
        return name

    def schema_text(self, data: bytes) -> str:
        """Return the schema `data` was written with.

        Raises:
            MalformedFrame: not Confluent's wire format.
            UnknownSchema: nobody knows the schema id.
            Unavailable: the registry does not answer.
        """
        prefix = data[:PREFIX_BYTES]
        text = self._texts.get(prefix)
        if text is None:
            text = self._texts[prefix] = self._registry.text_of(_schema_id(prefix))
        return text

    def warm(self, *kinds: type[Record]) -> None:
        """Look the schemas of `kinds` up now, so that a registry that is down or behind shows at start."""
        for kind in kinds:
            if kind not in self._writers:
                self._writers[kind] = self._new_writer(kind)

    def _new_writer(self, kind: type[Record]) -> Encoder:
        text = schema_texts()[kind.schema_name]
        number = self._registry.id_of(kind.schema_name, text)
        prefix = bytes([MAGIC]) + number.to_bytes(4, "big")
        # What we may write, peers of this version write too: read without another question.
        self._texts.setdefault(prefix, text)
        return encoder_of(json.loads(text), prefix)

    def _new_reader(self, prefix: bytes) -> Callable[[bytes], Record]:
        text = self.schema_text(prefix)
        raw = json.loads(text)
        name = f"{raw['namespace']}.{raw['name']}"
        kind = record_types().get(name)
        if kind is None:
            raise UnknownSchema(f"record {name} is not known to this version: update the reader")
        writer = _parsed(text)
        ours = schema_texts()[name]
        reader = None if json.loads(ours) == raw else _parsed(ours)
        return _reader(kind, writer, reader)


def patiently(read: Callable[[bytes], FoundT], data: bytes, is_over: Callable[[], bool]) -> FoundT:
    """Return `read(data)`, asking again while the registry does not answer: for readers that must keep their order.

    Whoever waits so long reads nothing meanwhile: its lag grows, and what depends on it goes stale.

    Args:
        read: `Codec.decode` or `Codec.record_name`.
        data: a record.
        is_over: says that the reader is to stop.

    Raises:
        Unavailable: no answer within `PATIENCE_S`, or the reader is to stop.
    """
    waited_s, pause_s = 0.0, _PAUSE_S
    while True:
        try:
            return read(data)
        except Unavailable:
            if waited_s >= PATIENCE_S or is_over():
                raise
        time.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 2, _PAUSE_S_MAX)


def _reader(kind: type[Record], writer: Any, reader: Any) -> Callable[[bytes], Record]:
    new_buffer = io.BytesIO

    def decode_flat(data: bytes) -> Record:
        buffer = new_buffer(data)
        buffer.seek(PREFIX_BYTES)
        try:
            fields: Any = schemaless_reader(buffer, writer, reader)
            return kind(**fields)
        except (EOFError, ValueError, IndexError, TypeError, fastavro.read.SchemaResolutionError) as e:
            raise MalformedFrame(f"{kind.schema_name}: the body is not what its schema says ({e})") from e

    def decode_nested(data: bytes) -> Record:
        buffer = new_buffer(data)
        buffer.seek(PREFIX_BYTES)
        try:
            return msgspec.convert(schemaless_reader(buffer, writer, reader), kind)
        except (EOFError, ValueError, IndexError, TypeError, fastavro.read.SchemaResolutionError) as e:
            raise MalformedFrame(f"{kind.schema_name}: the body is not what its schema says ({e})") from e

    return decode_nested if kind.nested else decode_flat


def _schema_id(prefix: bytes) -> int:
    if len(prefix) != PREFIX_BYTES or prefix[0] != MAGIC:
        raise MalformedFrame(f"expected 0x00 and a 4-byte schema id, found {prefix!r}")
    return int.from_bytes(prefix[1:], "big")


def _parsed(text: str) -> Any:
    # A name is parsed afresh each time: fastavro's shared table of named types would mix two versions of one enum.
    return parse_schema(json.loads(text), named_schemas={})
