"""`python -m dbbasic_queue`: every command, at an address that never moves.

Crontabs and units name this module only, so that no inner one stands on a user's disk. Beside the
commands of `dbq` there are `health` (which is `dbq-health`), `env` and `take-over` (see cli/env.py
and cli/take_over.py).
"""

import sys


def main() -> int:
    """Run the command that the arguments name; returns the exit code."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command == "health":
        from .cli.health import main as health

        return health(sys.argv[2:])
    if command == "env":
        from .cli.env import main as env

        env(sys.argv[2:])
    if command == "take-over":
        from .cli.take_over import main as take_over

        return take_over(sys.argv[2:])
    from .cli.main import main as dbq

    return dbq()


if __name__ == "__main__":
    sys.exit(main())
