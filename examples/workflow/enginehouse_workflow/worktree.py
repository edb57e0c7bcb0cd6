"""A worktree between its two writers. What the agent leaves is noted before the tests run: that is what is tested, and
what is committed. What the tests make or change is taken back before the agent goes on; what Git ignores stays.
"""

from __future__ import annotations

from typing import TypedDict

import trio

from actors import RunContext
from enginehouse_workflow.programs import git

__all__ = ["Noted", "commit", "note", "take_back"]


class Noted(TypedDict):
    """What there was: `tree`, the object ID of all files; `head`, of the commit beneath them."""

    head: str
    tree: str


async def note(ctx: RunContext, folder: str) -> Noted:
    """What there is. Cancelled: nothing is changed, but that Git's index may know more."""
    await unlock(ctx, folder)
    await git(ctx, folder, "add", "--all")
    return {"head": await git(ctx, folder, "rev-parse", "HEAD"), "tree": await git(ctx, folder, "write-tree")}


async def take_back(ctx: RunContext, folder: str, branch: str, noted: Noted) -> None:
    """Make the folder, its index and `branch` what was noted. Cancelled: in part; doing it again does the rest."""
    await unlock(ctx, folder)
    await git(ctx, folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    await git(ctx, folder, "update-ref", f"refs/heads/{branch}", noted["head"])
    await git(ctx, folder, "read-tree", "--reset", "-u", noted["tree"])
    for _ in range(2):  # what a .gitignore hid that was itself one of those files
        await git(ctx, folder, "clean", "--quiet", "-ffd")


async def commit(ctx: RunContext, repository: str, branch: str, noted: Noted, message: str) -> str:
    """Put what was noted on the branch, in one commit, unless all of it is committed already. Returns the commit."""
    made = noted["head"]
    if await git(ctx, repository, "rev-parse", f"{made}^{{tree}}") != noted["tree"]:
        made = await git(ctx, repository, "commit-tree", noted["tree"], "-p", made, "-m", message)
    await git(ctx, repository, "update-ref", f"refs/heads/{branch}", made)
    return made


async def unlock(ctx: RunContext, folder: str) -> None:
    """Whoever held the index is gone: a Git that was killed leaves its lock."""
    lock = await git(ctx, folder, "rev-parse", "--git-path", "index.lock")
    await trio.Path(folder, lock).unlink(missing_ok=True)
