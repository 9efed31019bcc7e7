"""Write the record classes of each layer from its `.avsc` files: `python -m schemas.generate [--check]`.

With `--check` nothing is written and a difference ends with exit code 1: the classes in the repository must be those of
the schemas in the repository.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from schemas.record import LAYERS, ROOT, schema_paths

_PRIMITIVES = {"string": "str", "long": "int", "int": "int", "bytes": "bytes", "boolean": "bool", "double": "float"}


def main() -> int:
    """Generate, or compare when asked to; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    check = parser.parse_args().check
    stale = []
    for path, text in render_all().items():
        target = ROOT / path
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            target.write_text(text, encoding="utf-8")
    if stale:
        verb = "differ from the schemas (run `make schemas` and commit)" if check else "written"
        print(f"schemas: {', '.join(stale)} {verb}")
    return 1 if stale and check else 0


def render_all() -> dict[str, str]:
    """Return the text of every generated file by its path below `schemas/`.

    Raises:
        ValueError: two schemas define one enum or nested record differently, or an enum has no default.
    """
    enums: dict[str, list[str]] = {}
    nested: dict[str, dict[str, Any]] = {}
    layers: dict[str, list[dict[str, Any]]] = {layer: [] for layer in LAYERS}
    for path in schema_paths():
        schema = json.loads(path.read_text(encoding="utf-8"))
        layers[path.parent.name].append(schema)
        _collect_enums(schema, enums)
        for record in _nested_records(schema):
            name = f"{record['namespace']}.{record['name']}"
            if nested.setdefault(name, record) != record:
                raise ValueError(f"record {name}: two schemas define it differently; make them equal")
    files = {f"{layer}/__init__.py": _render_layer(layer, schemas) for layer, schemas in layers.items()}
    files["enums.py"] = _render_enums(enums)
    return files


def _collect_enums(node: Any, enums: dict[str, list[str]]) -> None:
    if isinstance(node, list):
        for item in node:
            _collect_enums(item, enums)
    elif isinstance(node, dict):
        if node.get("type") == "enum":
            name, symbols = node["name"], node["symbols"]
            if enums.setdefault(name, symbols) != symbols:
                raise ValueError(f"enum {name}: two schemas define it differently; make them equal")
            if node.get("default") not in symbols:
                raise ValueError(f"enum {name}: needs a default, or a new symbol breaks old readers")
        for value in node.values():
            _collect_enums(value, enums)


def _render_enums(enums: dict[str, list[str]]) -> str:
    lines = ['"""Generated from the schemas by `make schemas`; do not edit. Closed sets of words in records."""', ""]
    lines += ["from typing import Literal", ""]
    for name in sorted(enums):
        lines.append(f"{name} = Literal[{', '.join(json.dumps(symbol) for symbol in enums[name])}]")
    return "\n".join(lines) + "\n"


def _render_layer(layer: str, schemas: list[dict[str, Any]]) -> str:
    records: list[dict[str, Any]] = []
    for schema in schemas:
        records += _nested_records(schema)
        records.append(schema)
    # A nested record belongs to the layer of its namespace; others import it from there.
    foreign = {(one["namespace"], one["name"]) for one in records if one["namespace"] != f"crossbook.{layer}"}
    records = [one for one in records if (one["namespace"], one["name"]) not in foreign]
    used: set[str] = set()
    bodies = [_render_record(record, used) for record in records]
    needs_field = any("field(" in body for body in bodies)
    lines = [f'"""Generated from `schemas/{layer}/*.avsc` by `make schemas`; do not edit."""', ""]
    lines.append("from typing import ClassVar")
    lines.append("")
    if needs_field:
        lines += ["from msgspec import field", ""]
    imports = [f"from schemas.{space.removeprefix('crossbook.')} import {name}" for space, name in sorted(foreign)]
    lines += imports
    if used:
        lines.append(f"from schemas.enums import {', '.join(sorted(used))}")
    lines.append("from schemas.record import Record")
    names = ", ".join(json.dumps(record["name"]) for record in sorted(records, key=lambda r: str(r["name"])))
    lines += ["", f"__all__ = [{names}]", "", ""]
    return "\n".join(lines) + "\n\n\n".join(bodies) + "\n"


def _nested_records(schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for fld in schema["fields"]:
        item = fld["type"]
        if isinstance(item, dict) and item.get("type") == "array" and isinstance(item["items"], dict):
            item = item["items"]
        if isinstance(item, dict) and item.get("type") == "record":
            found += [*_nested_records(item), item]
    return found


def _render_record(schema: dict[str, Any], used: set[str]) -> str:
    lines = [f"class {schema['name']}(Record, frozen=True, kw_only=True, gc=False):", f'    """{schema["doc"]}"""', ""]
    lines.append(f'    schema_name: ClassVar[str] = "{schema["namespace"]}.{schema["name"]}"')
    if any(fld["name"] == "trail" for fld in schema["fields"]):
        lines.append("    has_trail: ClassVar[bool] = True")
    if _nested_records(schema):
        lines.append("    nested: ClassVar[bool] = True")
    lines.append("")
    for fld in schema["fields"]:
        annotation = _annotation(fld["type"], used)
        default = ""
        if "default" in fld:
            default = " = field(default_factory=list)" if fld["default"] == [] else f" = {fld['default']!r}"
            default = default.replace("'", '"')
        lines.append(f"    {fld['name']}: {annotation}{default}")
        if fld.get("doc"):
            lines.append(f'    """{fld["doc"]}"""')
    return "\n".join(lines)


def _annotation(avro: Any, used: set[str]) -> str:
    if isinstance(avro, str):
        if avro in _PRIMITIVES:
            return _PRIMITIVES[avro]
        name = avro.rsplit(".", 1)[-1]
        used.add(name)
        return name
    if avro["type"] == "enum":
        used.add(avro["name"])
        return str(avro["name"])
    if avro["type"] == "array":
        return f"list[{_annotation(avro['items'], used)}]"
    if avro["type"] == "record":
        return str(avro["name"])
    raise ValueError(f"unsupported Avro type {avro!r}")


if __name__ == "__main__":
    sys.exit(main())
