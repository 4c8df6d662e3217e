"""What keeps the jobs: each engine is a module or a folder here."""
