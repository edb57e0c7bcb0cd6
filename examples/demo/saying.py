"""How the demo speaks: nothing is said to be so that was not checked."""

from __future__ import annotations

import time

__all__ = ["DemoFailed", "check", "elapsed_s", "say", "title"]

STARTED = time.monotonic()


class DemoFailed(Exception):
    """Something that the demo was about to say is not so."""


def elapsed_s() -> float:
    return time.monotonic() - STARTED


def say(text: str) -> None:
    print(f"[{elapsed_s():5.1f} s] {text}", flush=True)


def title(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def check(fact: object, text: str) -> None:
    """Say it if it is so."""
    if not fact:
        raise DemoFailed(text)
    say(f"ok: {text}")
