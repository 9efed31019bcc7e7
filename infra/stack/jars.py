"""The servers' archives: fetched side by side from Maven Central by jgo, checked against the hashes in `jars.toml`.

`jars.toml` names every file by its coordinate (`group:artifact:version[:classifier:packaging]`) with its SHA-256, so
a start resolves no dependency and takes no file nobody has looked at. `pin()` writes it anew after a version changed.

A download goes to a private folder first and reaches the Maven cache only when its hash fits, so an interrupted
download is never mistaken for an archive.
"""

import hashlib
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import jgo
from jgo.maven import Artifact, MavenContext, PythonResolver
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from core.domain.errors import Misconfigured, Unavailable

PINS = Path(__file__).with_name("jars.toml")
THREADS = 8
ATTEMPTS = 3
TIMEOUT_S = 30

# kafka-clients must be named beside kafka_2.13: left alone, the resolver takes 3.9.1 through another dependency and
# the broker dies. log4j-slf4j-impl is the logging binding Kafka does not bring.
KAFKA = (
    "org.apache.kafka:kafka_2.13:4.3.1"
    "+org.apache.kafka:kafka-clients:4.3.1"
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
)
REGISTRY = "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"
QUESTDB = "org.questdb:questdb:9.3.4"

Watch = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def fetch(pins: Path = PINS, repository: Path | None = None) -> dict[str, list[Path]]:
    """Return the checked files of each server (`kafka`, `registry`, `questdb`), downloading what is missing.

    Args:
        pins: the file with coordinates and hashes.
        repository: a Maven cache; by default the resolver's own (`~/.m2/repository`).

    Raises:
        Misconfigured: a file is not the one that was pinned.
        Unavailable: a file cannot be downloaded.
    """
    wanted = tomllib.loads(pins.read_text())
    jobs = [(server, name, digest) for server, files in wanted.items() for name, digest in files.items()]
    with _progress() as watch, ThreadPoolExecutor(THREADS) as pool:
        paths = list(pool.map(lambda job: _checked(job[1], job[2], repository, watch), jobs))
    found: dict[str, list[Path]] = {}
    for (server, _, _), path in zip(jobs, paths, strict=True):
        found.setdefault(server, []).append(path)
    return found


def unpack(archive: Path, cache: Path) -> Path:
    """Return the folder an archive is unpacked in, unpacking it when that has not happened yet.

    The folder appears under its name only when it is complete, so two stacks may start at once.
    """
    folder = cache / archive.name.removesuffix(".tar.gz")
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix=".unpack-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        scratch.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise somebody else was faster
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def pin(pins: Path = PINS) -> int:
    """Resolve the servers' dependencies anew and write their hashes; return the number of files."""
    names = {
        "kafka": sorted(_coordinate(artifact) for artifact in jgo.resolve(KAFKA)),
        "registry": [REGISTRY],
        "questdb": [QUESTDB],
    }
    lines = ["# SHA-256 of every archive the dev stack runs. Written by `python -m infra.stack pin`."]
    with _progress() as watch, ThreadPoolExecutor(THREADS) as pool:
        for server, coordinates in names.items():
            paths = pool.map(lambda name: _checked(name, None, None, watch), coordinates)
            lines += ["", f"[{server}]"]
            lines += [f'"{name}" = "{_digest(path)}"' for name, path in zip(coordinates, paths, strict=True)]
    pins.write_text("\n".join(lines) + "\n")
    return sum(len(coordinates) for coordinates in names.values())


def _checked(name: str, digest: str | None, repository: Path | None, watch: Watch) -> Path:
    artifact = _artifact(name, MavenContext(repo_cache=repository))
    path = artifact.cached_path
    if path is None:
        raise Misconfigured(f"{name} has no place in the Maven cache: its version must be a fixed one")
    if not path.exists():
        _download(name, digest, path, watch)
    elif digest is not None and (found := _digest(path)) != digest:
        raise Misconfigured(
            f"{path} is not the file that was pinned: expected SHA-256 {digest[:16]}…, found {found[:16]}…; "
            "delete it and start again"
        )
    return path


def _download(name: str, digest: str | None, path: Path, watch: Watch) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
        context = MavenContext(
            resolver=PythonResolver(progress_callback=watch), repo_cache=Path(scratch), timeout=TIMEOUT_S
        )
        fetched = _attempt(name, context)
        if digest is not None and (found := _digest(fetched)) != digest:
            raise Misconfigured(
                f"{name} as downloaded is not the file that was pinned: expected SHA-256 {digest[:16]}…, "
                f"found {found[:16]}…; check what stands between this machine and Maven Central"
            )
        fetched.replace(path)


def _attempt(name: str, context: MavenContext) -> Path:
    error: Exception | None = None
    for _ in range(ATTEMPTS):
        artifact = _artifact(name, context)
        try:
            return Path(artifact.resolve())
        except (RuntimeError, OSError) as failure:
            error = failure
            if artifact.cached_path is not None:
                artifact.cached_path.unlink(missing_ok=True)
    reason = str(error).splitlines()[0][:160]
    raise Unavailable(f"cannot download {name} ({reason}); check the network and start again") from error


def _artifact(name: str, context: MavenContext) -> Artifact:
    group, item, version, *rest = name.split(":")
    classifier, packaging = rest or ("", "jar")
    component = context.project(group, item).at_version(version)
    return component.artifact(classifier=classifier, packaging=packaging)


def _coordinate(artifact: Artifact) -> str:
    plain = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    special = artifact.classifier or artifact.packaging != "jar"
    return f"{plain}:{artifact.classifier}:{artifact.packaging}" if special else plain


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _progress() -> Iterator[Watch]:
    """Yield jgo's progress callback, drawn as one bar a file that is under way."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True) as progress:

        @contextmanager
        def watch(filename: str, total: int) -> Iterator[Callable[[int], None]]:
            task = progress.add_task(filename, total=total)
            try:
                yield lambda count: progress.advance(task, count)
            finally:
                progress.remove_task(task)

        yield watch
