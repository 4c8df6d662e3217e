"""`python -m dbbasic_queue.cli_health`: dbq-health at the address that entries of 2.0.0 name."""

import sys

from .cli.health import main

if __name__ == "__main__":
    sys.exit(main(["--report", *sys.argv[1:]]))  # those entries are scheduled checks
