"""`python -m infra.stack up | down | reset | status | fetch | pin | sweep`."""

import argparse
import sys

from core.domain.errors import CrossbookError
from infra.stack.jars import fetch, pin
from infra.stack.settings import StackSettings
from infra.stack.stack import Stack
from infra.stack.temporary import sweep


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an error that names its remedy is one line and exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.stack", description="Kafka, registry, QuestDB and PostgreSQL."
    )
    parser.add_argument("command", choices=list(COMMANDS))
    chosen = parser.parse_args(arguments).command
    try:
        COMMANDS[chosen](Stack(StackSettings()))
    except CrossbookError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


def _up(stack: Stack) -> None:
    stack.up()
    stack.show()


def _down(stack: Stack) -> None:
    print(f"stopped: {', '.join(stack.down()) or 'nothing ran'}")


def _reset(stack: Stack) -> None:
    print("the data folder is deleted" if stack.reset() else "there was no data folder")


def _fetch(stack: Stack) -> None:
    print(f"{sum(len(files) for files in fetch().values())} archives at hand")


def _pin(stack: Stack) -> None:
    print(f"{pin()} archives pinned")


def _status(stack: Stack) -> None:
    stack.show()


def _sweep(stack: Stack) -> None:
    print(f"{sweep()} temporary stacks of killed tests stopped")


COMMANDS = {
    "up": _up,
    "down": _down,
    "reset": _reset,
    "status": _status,
    "fetch": _fetch,
    "pin": _pin,
    "sweep": _sweep,
}

if __name__ == "__main__":
    sys.exit(main())
