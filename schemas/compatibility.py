"""The compatibility gate: `python -m schemas.compatibility`.

Stages are rolled one by one, so each version of a schema must read and be read by every earlier one (FULL_TRANSITIVE).
Earlier versions are taken from git history since the commit named in `schemas/BASELINE`, where the contracts were first
declared stable. Exit code 1 names the schema, the commit and what breaks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from schemas.record import ROOT, schema_paths

BASELINE = ROOT / "BASELINE"


def main() -> int:
    """Check every schema against its history; print findings and return the exit code."""
    checked = 0
    findings: list[str] = []
    for path in schema_paths():
        now = path.read_text(encoding="utf-8")
        for commit, before in _versions(path):
            checked += 1
            findings += [
                f"{path.relative_to(ROOT.parent)} against {commit[:10]}: {what}" for what in breaks(now, before)
            ]
    for name, commit in _removed():
        findings.append(f"{name}: removed since {commit[:10]}; keep it, or old records cannot be read")
    for finding in findings:
        print(f"schemas: incompatible: {finding}")
    print(f"schemas: {len(schema_paths())} schemas, {checked} earlier versions, {len(findings)} incompatible")
    return 1 if findings else 0


def breaks(now: str, before: str) -> list[str]:
    """Return what keeps readers and writers of two schema texts from understanding each other; empty if nothing."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call] # untyped package
    found = []
    for direction, reader, writer in (("new cannot read old", now, before), ("old cannot read new", before, now)):
        result = checker.get_compatibility(parse(reader), parse(writer))
        if result.compatibility is not SchemaCompatibilityType.compatible:
            found.append(f"{direction}: {'; '.join(sorted(result.messages)) or 'incompatible'}")
    return found


def _versions(path: Path) -> list[tuple[str, str]]:
    base = BASELINE.read_text(encoding="utf-8").strip()
    commits = [base, *_git("log", "--format=%H", f"{base}..HEAD", "--", str(path)).split()]
    found = []
    for commit in commits:
        text = _git("show", f"{commit}:{path.relative_to(ROOT.parent).as_posix()}", missing="")
        if text:
            found.append((commit, text))
    return found


def _removed() -> list[tuple[str, str]]:
    base = BASELINE.read_text(encoding="utf-8").strip()
    names = _git("ls-tree", "-r", "--name-only", base, "--", str(ROOT)).split()
    return [(name, base) for name in names if name.endswith(".avsc") and not (ROOT.parent / name).exists()]


def _git(*arguments: str, missing: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        if missing is not None:
            return missing
        print(
            f"schemas: git {arguments[0]} failed: {done.stderr.strip()}; the gate needs the whole history",
            file=sys.stderr,
        )
        raise SystemExit(1)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
