"""A kind of engine of your own: `tidy` looks for files that match a pattern and removes them, once a person agreed.

    .venv/bin/python -m examples.own_kind

It shows what an author has to think about: a config, the input of a run, pause points between the steps, slices for
whoever watches, an approval of exactly the files that were found, and events of one's own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, ClassVar

import trio
from pydantic import BaseModel, ConfigDict, Field

from actors import Config, Context, Engine, RunContext, RunFailed, RunInput
from protocol.edge import load
from protocol.requests import APPROVE, REJECT, RequestKind, is_refusal
from protocol.specs import OnInterrupt
from supervisor import Caller, EmbeddedHouse, Filter, NewEngine, NewRun, ReplyBody, open_supervisor


class TidyConfig(Config):
    """What a spawn must say."""

    folder: Annotated[str, Field(min_length=1)]


class Sweep(BaseModel):
    """What a run must say."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    pattern: Annotated[str, Field(min_length=1, max_length=100)]


class Tidy(Engine):
    kind = "tidy"
    description = "Removes the files of a folder that match a pattern, after an approval."
    Config = TidyConfig
    Input: ClassVar[Any] = Sweep
    emits = ("tidy.removed",)
    on_interrupt = OnInterrupt.RETRY  # looking again is harmless, and an answer that was not used yet is found again

    async def on_start(self, ctx: Context) -> None:
        ctx.update("status", f"looks after {self.config.folder}")

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        sweep = load(Sweep, run.input)
        found: list[str] = []
        for path in sorted(await trio.Path(self.config.folder).iterdir()):
            await ctx.pause_point()  # held: the run waits here, and goes on here
            if path.match(sweep.pattern):
                found.append(path.name)
                ctx.update("found", found[:])
        if not found:
            return {"removed": []}
        decided = await ctx.ask_human(
            f"Remove {len(found)} files?", kind=RequestKind.APPROVAL, options=(APPROVE, REJECT), action=found
        )
        if is_refusal([APPROVE, REJECT], decided.option):
            raise RunFailed("refused", f"{decided.by} said no.", {"removed": []})
        for name in found:
            await ctx.pause_point()
            await (trio.Path(self.config.folder) / name).unlink(missing_ok=True)
            await ctx.emit("tidy.removed", {"name": name})
            await ctx.output(f"removed {name}\n")
        return {"removed": found}


async def main(folder: Path) -> dict[str, Any]:
    """Spawn it, let it find and ask, approve, and return the result of the run."""
    for name in ("a.tmp", "b.tmp", "keep.txt"):
        (folder / name).touch()
    async with open_supervisor(kinds=[Tidy]) as house:
        await house.spawn(NewEngine(kind="tidy", id="tidy", config={"folder": str(folder)}))
        run, _ = await house.submit("tidy", NewRun(input={"pattern": "*.tmp"}))
        request = await first_request(house, run.id)
        asked = await house.request(request)
        print(f"it asks: {asked.title} {[option['label'] for option in asked.options]}")
        print(f"it found: {(await house.slice('tidy', 'found')).value}")
        reply = ReplyBody(option="approve", digest=asked.digest, comment="go ahead")
        await house.reply(request, reply, Caller(principal="user:alice"))
        async with house.events(Filter(run=run.id), after="0") as events:
            while all(frame.event != "end" for frame in await events.receive()):
                pass
        ended = await house.run(run.id)
        output, _ = await house.output(run.id)
        print(f"{ended.status}: {ended.result}\n{output.decode()}", end="")
        await house.dispose("tidy")
        return dict(ended.result)


async def first_request(house: EmbeddedHouse, run: str) -> str:
    """The id of the first request that the run opens."""
    async with house.events(Filter(run=run, types=("request.opened",)), after="0") as events:
        frames = await events.receive()
    return str(load(dict[str, Any], frames[0].data)["data"]["request_id"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="enginehouse-example-") as temporary:
        trio.run(main, Path(temporary))
