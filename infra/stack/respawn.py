"""Hooks that run inside the process manager: which dead process is started again, and which is not.

Circus starts a dead process again without end. Two kinds must not be: one that said at its first start that it must not
start (exit code 2: nothing changes by trying again), and one that dies faster than anybody can look. Where a process of
the same watcher had run before, exit code 2 says that a server is away for the moment: those are tried again.
"""

import time
from collections import deque

MISCONFIGURED = 2
DEATHS_MAX = 10
WINDOW_S = 30.0

_deaths: dict[str, deque[float]] = {}
_misconfigured: set[str] = set()
_ran: set[str] = set()
"""Watchers of which a process got further than its start."""


def forget(watcher: object, arbiter: object, hook_name: str, **_: object) -> bool:
    """Begin with a clean slate: somebody started the watcher on purpose (`before_start`)."""
    name = _name(watcher)
    _deaths.pop(name, None)
    _misconfigured.discard(name)
    _ran.discard(name)
    return True


def note(watcher: object, arbiter: object, hook_name: str, **facts: object) -> bool:
    """Remember a death (`after_reap`)."""
    name = _name(watcher)
    _deaths.setdefault(name, deque(maxlen=DEATHS_MAX)).append(time.monotonic())
    if facts.get("exit_code") != MISCONFIGURED:
        _ran.add(name)
    elif name not in _ran:
        _misconfigured.add(name)
    return True


def allow(watcher: object, arbiter: object, hook_name: str, **_: object) -> bool:
    """Say whether another process may be spawned (`before_spawn`); if not, circus stops the watcher."""
    name = _name(watcher)
    deaths = _deaths.get(name, deque())
    is_flapping = len(deaths) == DEATHS_MAX and time.monotonic() - deaths[0] < WINDOW_S
    return name not in _misconfigured and not is_flapping


def _name(watcher: object) -> str:
    return str(getattr(watcher, "name", watcher))
