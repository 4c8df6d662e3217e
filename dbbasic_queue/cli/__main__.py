"""`python -m dbbasic_queue.cli`: dbq at the address that entries of 2.0.0 name."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
