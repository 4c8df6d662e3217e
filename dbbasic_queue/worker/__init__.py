"""Runs handlers; knows no engine."""
