"""The engine that keeps the jobs in one TSV file."""
