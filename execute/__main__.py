"""`python -m execute --account kalshi:main`: the gateway of one venue account."""

from __future__ import annotations

import argparse
import sys

from core.runtime.worker import main
from execute.process import run
from execute.settings import ExecuteSettings


def _parse(arguments: list[str]) -> dict[str, object]:
    parser = argparse.ArgumentParser(prog="python -m execute", description=__doc__)
    parser.add_argument("--account", help="<venue>:<name>; CROSSBOOK_ACCOUNT where it is not given")
    account = parser.parse_args(arguments).account
    return {"account": account} if account else {}


if __name__ == "__main__":
    sys.exit(main(ExecuteSettings, run, **_parse(sys.argv[1:])))
