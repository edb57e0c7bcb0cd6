"""The engine. What it knows of the past is in its slice, so after a restart no file is told of twice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import trio
from pydantic import AfterValidator, Field

from actors import CannotStart, Config, Context, Engine, RunContext, RunFailed, RunInput
from protocol.specs import OnInterrupt


def absolute(path: str) -> str:
    """Checked by a function, since its sentence is what whoever spawns one reads; a pattern would show itself."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"an absolute path is wanted, such as '/srv/letters', not {path!r}")
    return path


class InboxConfig(Config):
    """What a spawn may say."""

    folder: Annotated[str, AfterValidator(absolute)]
    every_s: Annotated[float, Field(gt=0, le=3600)] = 1.0


class Inbox(Engine):
    kind = "inbox"
    description = "Watches a folder and tells what arrives in it."
    Config = InboxConfig
    Input: ClassVar[Any] = Annotated[str, Field(pattern=r"^[^/\x00]{1,255}$")]
    emits = ("inbox.arrived",)
    on_interrupt = OnInterrupt.RETRY  # counting once more does no harm

    async def on_start(self, ctx: Context) -> None:
        if not await trio.Path(self.config.folder).is_dir():
            raise CannotStart(f"There is no folder {self.config.folder!r}.")
        await self.look(ctx)
        ctx.nursery.start_soon(self.watch, ctx)

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, int]:
        if run.input not in (ctx.slice("files") or {}):
            raise RunFailed("no-such-file", f"Nothing of the name {run.input!r} has arrived.")
        text = await trio.Path(self.config.folder, run.input).read_text(encoding="utf-8", errors="replace")
        return {"lines": len(text.splitlines()), "words": len(text.split())}

    async def watch(self, ctx: Context) -> None:
        """Ends with the incarnation; its sleep is a pause point."""
        while True:
            await ctx.sleep(self.config.every_s)
            await self.look(ctx)

    async def look(self, ctx: Context) -> None:
        known = ctx.slice("files") or {}
        found = await trio.to_thread.run_sync(sizes, self.config.folder)
        if found != known:
            ctx.update("files", found)  # before it is told: whoever hears of a file sees it there
        for name in sorted(found.keys() - known.keys()):
            await ctx.emit("inbox.arrived", {"name": name, "bytes": found[name]})


def sizes(folder: str) -> dict[str, int]:
    """Runs in a thread: a disk may be slow."""
    return {path.name: path.stat().st_size for path in Path(folder).iterdir() if path.is_file()}
