"""Handlers of dbbasic-web: its router finds them by their place."""
