"""The shop's own exceptions."""


class OutOfStock(Exception):
    """There is none left."""
