"""The shop's own worker, for when `dbq work jobs:HANDLERS` is not enough: quick retries."""

from jobs import HANDLERS

from dbbasic_queue import Backoff, process_jobs

if __name__ == "__main__":
    # Tries again after 1, 2, 4 … seconds, and waits for that up to five seconds.
    print(process_jobs(HANDLERS, max_attempts=3, backoff=Backoff(base=0.5, factor=2), linger=5))
