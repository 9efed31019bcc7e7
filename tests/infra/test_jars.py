"""Archives are fetched, checked and refused; a Maven repository on loopback plays Maven Central."""

import hashlib
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo.maven._core
import pytest

from core.domain.errors import Misconfigured, Unavailable
from infra.stack.jars import PINS, fetch, unpack

COORDINATE = "org.example:thing:1.0"
PLACE = Path("org/example/thing/1.0/thing-1.0.jar")
BYTES = b"an archive"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder a Maven repository on loopback serves."""
    folder = tmp_path / "central"
    (folder / PLACE).parent.mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setattr(jgo.maven._core, "DEFAULT_REMOTE_REPOS", {"central": f"http://127.0.0.1:{server.server_port}"})
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    file = tmp_path / "jars.toml"
    file.write_text(f'[thing]\n"{COORDINATE}" = "{hashlib.sha256(BYTES).hexdigest()}"\n')
    return file


def test_a_missing_archive_is_downloaded_into_the_cache_once(central: Path, pins: Path, tmp_path: Path) -> None:
    (central / PLACE).write_bytes(BYTES)
    cache = tmp_path / "cache"
    assert fetch(pins, cache) == {"thing": [cache / PLACE]}
    assert (cache / PLACE).read_bytes() == BYTES
    (central / PLACE).unlink()
    assert fetch(pins, cache) == {"thing": [cache / PLACE]}


def test_a_download_with_another_hash_is_refused_and_not_kept(central: Path, pins: Path, tmp_path: Path) -> None:
    (central / PLACE).write_bytes(b"something else")
    with pytest.raises(Misconfigured, match=rf"{COORDINATE} as downloaded is not the file that was pinned"):
        fetch(pins, tmp_path / "cache")
    assert not (tmp_path / "cache" / PLACE).exists()


def test_a_cached_file_with_another_hash_is_named_with_the_remedy(pins: Path, tmp_path: Path) -> None:
    path = tmp_path / "cache" / PLACE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half an arch")
    with pytest.raises(Misconfigured, match=rf"{path} is not the file that was pinned.*delete it and start again"):
        fetch(pins, tmp_path / "cache")


def test_an_archive_that_cannot_be_downloaded_is_named_with_the_remedy(
    central: Path, pins: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=rf"cannot download {COORDINATE}.*check the network") as caught:
        fetch(pins, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_unpacking_happens_once_and_leaves_no_scratch_folder(tmp_path: Path) -> None:
    (tmp_path / "quarkus-run.jar").write_bytes(BYTES)
    archive = tmp_path / "app-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "quarkus-run.jar", arcname="quarkus-run.jar")
    folder = unpack(archive, tmp_path / "cache")
    assert (folder / "quarkus-run.jar").read_bytes() == BYTES
    archive.unlink()
    assert unpack(archive, tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["app-1.0"]


def test_every_pinned_archive_has_a_fixed_version_and_a_whole_hash() -> None:
    import tomllib

    pinned = tomllib.loads(PINS.read_text())
    assert set(pinned) == {"kafka", "registry", "questdb"}
    for files in pinned.values():
        for name, digest in files.items():
            assert len(digest) == 64
            assert name.split(":")[2][0].isdigit()
    assert "org.apache.kafka:kafka-clients:4.3.1" in pinned["kafka"]
