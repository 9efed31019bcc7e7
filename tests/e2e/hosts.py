"""Hosts that share nothing but a network: Linux namespaces, each with its own network, name, files and processes.

A *lab* is a namespace of its own in which everything stands, so nothing touches this machine's network. In it each host
has a cable (a veth pair) to the lab, which plays the network to Kafka, and sees its own folder where the lab has its.
Everything is a descendant of the lab's first process and in its pid namespace: when that ends, however it does, the
kernel kills all of it, and cables and mounts go with the last process. Nothing has a name outside that could be left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

PROJECT = Path(__file__).resolve().parents[2]
HUB = "10.77.0.1"
"""Where the servers are, in the lab; both hosts have a route to this address alone."""
PROGRAMS = {
    **dict.fromkeys(("unshare", "nsenter", "setpriv", "mount"), "util-linux"),
    "ip": "iproute2",
    "hostname": "hostname",
}
OWN = ["--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""What a lab, and each host in it, has of its own."""
START_S = 10.0

# A host: its own folder where the lab's is, the project to be read only, a name, a loopback; then it waits to be killed.
BEGIN = """set -e
mount --rbind "$2" "$3"
mount --rbind "$4" "$4"
mount -o remount,bind,ro "$4"
hostname "$1"
ip link set lo up
echo begun
exec sleep infinity"""
# What a lab will do, tried: a host with a name and files of its own, and a cable.
TRIAL = f"""set -e
unshare {" ".join(OWN)} sh -c 'set -e; hostname trial; ip link set lo up; mount --rbind /mnt /mnt'
ip link add trial0 type veth peer name trial1
ip addr add {HUB}/32 dev lo
mount -t tmpfs tmpfs /dev/shm"""
PROBE = """import json, socket, sys
found = {}
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 2).close()
        found[address] = ""
    except OSError as e:
        found[address] = type(e).__name__ + ": " + str(e)
print(json.dumps(found))"""


def lab(command: Sequence[str]) -> list[str]:
    """Return what runs a command as the first process of a lab; it dies with the thread that starts it."""
    # Without root the lab has users of its own, of whom we are root.
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *users, *OWN, *command]


def why_not() -> str:
    """Return why no lab can be made here, empty if one can: found by making one."""
    if sys.platform != "linux":
        return f"namespaces are Linux's, this is {sys.platform}"
    missing = sorted(f"{name} ({package})" for name, package in PROGRAMS.items() if shutil.which(name) is None)
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        done = subprocess.run(lab(["sh", "-c", TRIAL]), capture_output=True, text=True, check=False, timeout=START_S)
    except subprocess.TimeoutExpired:
        return f"a namespace was not made within {START_S:.0f} s"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"this kernel or container refuses namespaces (unshare, ip, mount ended with {done.returncode}): {said[-1]}"


def run(*command: str) -> None:
    """Run one command, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


def begin_memory() -> None:
    """Let the lab have a file system in memory of its own: seen from here the owners of all others' folders are dead."""
    run("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")


def begin_network() -> None:
    """Make the lab's own side of the network: the servers' address, and nobody's packets passed on."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", f"{HUB}/32", "dev", "lo")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")


class Host:
    """One host; made in a lab's first process. `number` is its place in the network."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name = name
        self.address = f"10.77.{number}.2"
        self.folder = folder / "hosts" / name
        """Its own folder as the lab sees it; the host sees it as `home`."""
        self.home = folder
        self.folder.mkdir(parents=True)
        arguments = [name, str(self.folder), str(folder), str(PROJECT)]
        self._holder = subprocess.Popen(
            ["unshare", *OWN, "sh", "-c", BEGIN, "sh", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "begun\n", f"host {name} did not begin"
        self.pid = psutil.Process(self._holder.pid).children()[0].pid
        self._cable = f"{name}0"
        gateway = f"10.77.{number}.1"
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "addr", "add", f"{gateway}/24", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        run(*self._inside("ip", "addr", "add", f"{self.address}/24", "dev", "eth0"))
        run(*self._inside("ip", "link", "set", "eth0", "up"))
        run(*self._inside("ip", "route", "add", f"{HUB}/32", "via", gateway))

    def open(
        self, command: Sequence[str], log: str, env: Mapping[str, str] | None = None, **pipes: Any
    ) -> subprocess.Popen[str]:
        """Start a process on this host, in its folder, with nothing of our environment but the path."""
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PYTHONPATH": str(PROJECT),
            **(env or {}),
        }
        with self.log(log).open("w") as file:
            return subprocess.Popen(
                self._inside(*command), env=own, text=True, **({"stdout": file, "stderr": file} | pipes)
            )

    def log(self, name: str) -> Path:
        """Return the log file of a process, as the lab sees it."""
        return self.folder / f"{name}.log"

    def reaches(self, *addresses: str) -> dict[str, str]:
        """Try to connect from here; returns why each address did not answer, empty where it did."""
        process = self.open([sys.executable, "-c", PROBE, *addresses], "probe", stdout=subprocess.PIPE)
        said, _ = process.communicate(timeout=START_S + 2 * len(addresses))
        found: dict[str, str] = json.loads(said)
        return found

    def cut(self) -> None:
        """Pull the cable, at the far end."""
        run("ip", "link", "set", self._cable, "down")

    def mend(self) -> None:
        """Plug it in again."""
        run("ip", "link", "set", self._cable, "up")

    def _inside(self, *command: str) -> list[str]:
        enter = ["nsenter", "--target", str(self.pid), "--net", "--uts", "--ipc", "--mount", "--pid"]
        # Entering a namespace of mounts leads to its root folder.
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(self.home), *command]


class Venue:
    """A simulated venue on a host, asked over a pipe: a question to it needs no network."""

    def __init__(self, host: Host, name: str, port: int) -> None:
        self._process = host.open(
            [sys.executable, "-m", "tests.e2e.venue", name, str(port)],
            "venue",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._host = host
        self.address = f"127.0.0.1:{port}"
        self.keys = str(host.home / "keys.json")

    def wait(self) -> None:
        """Return when it serves."""
        assert self._line() == {"serving": True}

    def says(self) -> dict[str, Any]:
        """Return what it knows of its account: `attempts` by our id, `filled`, `arrived`, `open`, `elsewhere`."""
        asked: IO[str] | None = self._process.stdin
        assert asked is not None
        asked.write("say\n")
        asked.flush()
        return self._line()

    def open_orders(self) -> int:
        """Return how many orders rest there."""
        return len(self.says()["open"])

    def attempts(self) -> int:
        """Return how often an order was sent to it."""
        return sum(self.says()["attempts"].values())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the venue on {self._host.name} ended: {self._host.log('venue').read_text()[-2_000:]}"
        found: dict[str, Any] = json.loads(line)
        return found
