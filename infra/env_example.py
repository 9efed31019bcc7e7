"""Writes `.env.example` from the settings classes: `python -m infra.env_example [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic_settings import BaseSettings

from core.runtime.settings import KafkaSettings, WorkerSettings
from decide.settings import DecideSettings
from derive.settings import DeriveSettings
from execute.settings import ExecuteSettings
from infra.stack.settings import StackSettings
from ingest.settings import IngestSettings
from normalize.settings import NormalizeSettings
from observe.settings import ObserveSettings
from simulate.paper_settings import PaperSettings
from simulate.settings import SimulateSettings

TARGET = Path(__file__).resolve().parents[1] / ".env.example"
_HEAD = """\
# Every setting with its default. Copy what you change to `.env`; the environment wins over the file.
# Written by `python -m infra.env_example`; a test checks that it is complete.
"""
_GROUPS: tuple[tuple[str, type[BaseSettings], type[BaseSettings] | None], ...] = (
    ("every worker", WorkerSettings, None),
    ("every client of Kafka", KafkaSettings, None),
    ("ingest", IngestSettings, WorkerSettings),
    ("normalize", NormalizeSettings, WorkerSettings),
    ("derive", DeriveSettings, WorkerSettings),
    ("decide", DecideSettings, WorkerSettings),
    ("execute", ExecuteSettings, WorkerSettings),
    ("observe", ObserveSettings, WorkerSettings),
    ("the dev stack", StackSettings, None),
    ("simulated venues", SimulateSettings, None),
    ("paper venues", PaperSettings, WorkerSettings),
)


def render() -> str:
    """Return the file's text."""
    parts = [_HEAD]
    for title, kind, parent in _GROUPS:
        known = parent.model_fields if parent is not None else {}
        prefix = str(kind.model_config.get("env_prefix", ""))
        lines = []
        for name, field in kind.model_fields.items():
            if name in known:
                continue
            if field.description:
                lines.append(f"# {field.description}")
            default = field.get_default(call_default_factory=True, validated_data={})
            lines.append(f"# {prefix}{name.upper()}={_shown(default)}")
        if lines:
            parts.append(f"## {title}\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _shown(default: object) -> str:
    text = "" if default is None else str(default)
    # Folders are shown from the project: the file must not speak of one machine.
    return text.replace(str(TARGET.parent) + "/", "").replace(str(Path.home()), "~")


def main() -> int:
    """Write the file, or compare when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file differs")
    text = render()
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
