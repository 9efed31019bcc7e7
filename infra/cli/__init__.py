"""The `crossbook` command line. An error that names its remedy is one line on standard error and exit code 2."""

import sys

EXIT_REFUSED = 2


def main() -> None:
    """Run the command line and exit with its code."""
    from infra.cli.app import run

    sys.exit(run(sys.argv[1:]))
