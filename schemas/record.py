"""The base of every record class, and the one list of them."""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import msgspec

LAYERS = ("control", "raw", "market", "derived", "decision", "order", "dead")
ROOT = Path(__file__).parent


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value that crosses a topic. Frozen: what was logged does not change.

    `gc=False` is safe because records hold no cycles, and saves the collector a walk per record.
    """

    schema_name: ClassVar[str] = ""
    """Full Avro name, which is also the registry subject."""
    has_trail: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    """A field holds other records, so a shallow dictionary is not enough to encode it."""


def schema_paths() -> list[Path]:
    """Return every `.avsc`, in a stable order."""
    return [path for layer in LAYERS for path in sorted((ROOT / layer).glob("*.avsc"))]


@cache
def schema_texts() -> dict[str, str]:
    """Return the schema text of every record by its full Avro name."""
    texts = {}
    for path in schema_paths():
        text = path.read_text(encoding="utf-8")
        schema: dict[str, Any] = json.loads(text)
        texts[f"{schema['namespace']}.{schema['name']}"] = text
    return texts


@cache
def record_types() -> dict[str, type[Record]]:
    """Return every record class by its full Avro name."""
    types: dict[str, type[Record]] = {}
    for name in schema_texts():
        _, layer, noun = name.split(".")
        types[name] = getattr(importlib.import_module(f"schemas.{layer}"), noun)
    return types
