"""Errors that speak for themselves."""

__all__ = ["Told"]


class Told(Exception):
    """Its text is a sentence of ours about what happened, for people: wherever it is told its class is not."""
