"""`python -m infra.cli`: the same as `crossbook`."""

from infra.cli import main

if __name__ == "__main__":
    main()
