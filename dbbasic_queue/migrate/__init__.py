"""Moves a queue's jobs into another queue, on whatever engine."""
