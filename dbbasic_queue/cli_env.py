"""`python -m dbbasic_queue.cli_env`: the address that crontab entries of 2.0.0 name."""

from .cli.env import main

if __name__ == "__main__":
    main()
