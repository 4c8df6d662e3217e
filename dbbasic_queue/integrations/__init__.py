"""Frameworks that a user has already: each module is imported where it is asked for, never else."""
