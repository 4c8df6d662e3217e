"""What the standard library leaves out; it knows nothing of jobs."""
