"""Secrets that somebody types: from the terminal without an echo, else the first line of stdin; never an argument,
which every process of the machine can read.
"""

from __future__ import annotations

import getpass
import sys

import typer

__all__ = ["password", "secret"]


def secret(what: str) -> str:
    """`what`, in words. Raises typer.BadParameter when there is none."""
    text = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise typer.BadParameter(f"Give the {what.lower()} on the terminal, or as a line on stdin.")
    return text


def password(*, new: bool) -> str:
    """A password; a `new` one is asked for twice on a terminal."""
    typed = secret("Password")
    if new and sys.stdin.isatty() and secret("Again") != typed:
        raise typer.BadParameter("The two passwords differ.")
    return typed
