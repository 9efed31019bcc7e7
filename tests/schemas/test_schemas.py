"""The contracts: generated classes match, history stays readable."""

import json

import pytest

from schemas.compatibility import breaks
from schemas.generate import render_all
from schemas.record import ROOT, record_types, schema_paths, schema_texts


def test_the_generated_classes_are_those_of_the_schemas():
    for path, text in render_all().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run `make schemas`"


def test_file_record_subject_and_class_carry_one_name():
    for path in schema_paths():
        schema = json.loads(path.read_text(encoding="utf-8"))
        noun = "".join(word.capitalize() for word in path.stem.split("_"))
        assert (schema["name"], schema["namespace"]) == (noun, f"crossbook.{path.parent.name}")
        assert record_types()[f"{schema['namespace']}.{noun}"].__name__ == noun


def test_records_of_money_hold_no_floating_point():
    for name, text in schema_texts().items():
        assert '"double"' not in text, name
        assert '"float"' not in text, name


TICK = json.loads(schema_texts()["crossbook.market.Tick"])


def changed(change) -> str:
    schema = json.loads(json.dumps(TICK))
    change(schema["fields"])
    return json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "compatible"),
    [
        pytest.param(
            lambda f: f.append({"name": "n", "type": "long", "default": 0}), True, id="a field with a default"
        ),
        pytest.param(lambda f: f.append({"name": "n", "type": "long"}), False, id="a field without a default"),
        pytest.param(lambda f: f.pop(0), False, id="a required field dropped"),
        pytest.param(lambda f: f.pop(), True, id="a field with a default dropped"),
        pytest.param(lambda f: f[2].update(type="string"), False, id="another type"),
    ],
)
def test_the_gate_lets_through_only_what_both_sides_read(change, compatible):
    assert (breaks(changed(change), json.dumps(TICK)) == []) is compatible
