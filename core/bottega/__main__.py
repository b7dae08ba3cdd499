"""``python -m bottega`` and the program ``bottega``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C is quiet even while it is being loaded."""
    try:
        from bottega.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
