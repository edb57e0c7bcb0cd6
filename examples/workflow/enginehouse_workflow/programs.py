"""Programs of a run: Git, and the tests. Each is over before the run goes on; what it leaves running in the background
ends with the incarnation.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from actors import Context, RunFailed
from actors.children import ResourceLimits
from actors.processes import SpawnFailed

__all__ = ["Ended", "git", "ran"]

TAIL_BYTES = 8 * 1024
LAST_LINES, LAST_CHARS = 20, 2000
GIT_S = 120.0
# No hook of the repository runs: an agent may have written it. Nobody is asked for a password.
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "user.name=enginehouse", "-c", "user.email=enginehouse@localhost")
QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Ended:
    """`code`: its exit status, negative for a signal, None when its time was over; `tail`: the end of its output."""

    code: int | None
    tail: str

    @property
    def last(self) -> str:
        """Of the tail what people are shown: the last lines, with nothing in them that a terminal would obey."""
        text = "".join(char for char in self.tail if char.isprintable() or char in "\n\t")
        return "\n".join(text.strip().splitlines()[-LAST_LINES:])[-LAST_CHARS:]


async def ran(
    ctx: Context,
    argv: Sequence[str],
    folder: str,
    env: Mapping[str, str],
    *,
    timeout_s: float,
    limits: ResourceLimits | None = None,
    show: Callable[[bytes], Awaitable[None]] | None = None,
) -> Ended:
    """Run a program to its end. `show` takes its output as it comes. Raises RunFailed when it cannot be started.
    Cancelled: it is killed, with its process group.
    """
    try:
        process = await ctx.spawn_process(argv, cwd=folder, env=env, merge_stderr=True, limits=limits)
    except SpawnFailed as error:
        raise RunFailed("cannot-run", f"{argv[0]} cannot be run in {folder}: {error}") from None
    masking, tail = ctx.masking(), b""
    try:
        if process.stdin is not None:
            await process.stdin.aclose()
        with trio.move_on_after(timeout_s) as time:
            while True:
                async with ctx.process_wait():
                    data = await process.stdout.receive_some(65536)
                if not data:
                    break
                told = masking.feed(bytes(data))
                tail = (tail + told)[-TAIL_BYTES:]
                if show is not None:
                    await show(told)
            tail = (tail + masking.rest())[-TAIL_BYTES:]
            await process.wait()
        return Ended(None if time.cancelled_caught else process.returncode, tail.decode("utf-8", "replace"))
    finally:
        process.signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.aclose()


async def git(ctx: Context, folder: str, *args: str) -> str:
    """What Git says, without the last line end. Raises RunFailed, with its words, when it fails; also in a folder that
    is only part of a worktree, for what is done to one must not reach another that it lies in.
    """
    env = await ctx.environment({**QUIET, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)})
    ended = await ran(ctx, [*GIT, *args], folder, env, timeout_s=GIT_S)
    if ended.code != 0:
        raise RunFailed("git-failed", f"git {args[0]} failed in {folder}: {ended.tail.strip()[-500:]}")
    return ended.tail.strip()
