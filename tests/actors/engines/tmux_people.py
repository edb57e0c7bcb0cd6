"""Somebody at a real tmux client: in a terminal that another real tmux makes for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio


def tmux(socket: Path | str, *words: str) -> str:
    """What a command says that a tmux server is given."""
    done = subprocess.run(
        ["tmux", "-S", str(socket), "-f", "/dev/null", *words],
        capture_output=True, text=True, timeout=20, check=False,
        env={name: value for name, value in os.environ.items() if name != "TMUX"},
    )  # fmt: skip
    return done.stdout


class Person:
    """Attached to an engine's session."""

    def __init__(self, desk: Path, inner: str) -> None:
        self._desk, self._inner = desk, inner

    def types(self, text: str, *, enter: bool = True) -> None:
        tmux(self._desk, "send-keys", "-t", "=desk:", "-l", text)
        if enter:
            self.presses("Enter")

    def presses(self, *keys: str) -> None:
        tmux(self._desk, "send-keys", "-t", "=desk:", *keys)

    @property
    def screen(self) -> str:
        return tmux(self._desk, "capture-pane", "-p", "-t", "=desk:")

    async def sees(self, text: str) -> None:
        with trio.fail_after(20):
            while text not in self.screen:  # noqa: ASYNC110 - nobody tells what is on a screen
                await trio.sleep(0.05)


@contextmanager
def somebody(desk: Path, attach: list[str]) -> Iterator[Person]:
    """`attach`: the command that an engine's slice `terminal` tells."""
    inner = attach[attach.index("-S") + 1]
    tmux(desk, "new-session", "-d", "-s", "desk", "-x", "80", "-y", "26", *attach)
    try:
        yield Person(desk, inner)
    finally:
        tmux(desk, "kill-server")
