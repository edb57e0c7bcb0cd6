"""A house inside your own trio program: no daemon, no HTTP, no thread that you did not ask for (the store has its own).

    .venv/bin/python -m examples.embedded

The journal is a SQLite file. The first block is left while an engine is held in the middle of a run. The second house
that opens the file finds the engine paused, with its hold; the run, which the end of the first house interrupted, is
tried again as soon as the hold is lifted.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio

from protocol.wire import RunInfo
from supervisor import Caller, EmbeddedHouse, Filter, NewEngine, NewRun, SqliteStore, open_supervisor

ME = Caller(principal="user:alice")


async def main(folder: Path) -> RunInfo:
    """The whole story; `folder` keeps the journal and the outputs. Returns the run that lived in two houses."""
    async with open_supervisor(store=SqliteStore(folder / "journal.db"), directory=folder) as house:
        engine, _ = await house.spawn(NewEngine(kind="probe", id="steps"), ME)
        print(f"spawned {engine.id}, a {engine.kind}: {engine.state}")

        run, _ = await house.submit("steps", NewRun(input={"steps": 6, "step_s": 0.05}), ME)
        await step(house, run.id, 3)
        await house.pause("steps", ME, reason="lunch", wait_s=5)
        held = await house.get("steps")
        print(f"paused at {(await house.slice('steps', 'progress')).value}, held by {held.holds[0].holder}")

    async with open_supervisor(store=SqliteStore(folder / "journal.db"), directory=folder) as house:
        back = await house.get("steps")
        print(f"another house, the same journal: {back.id} is {back.state}, because of {back.holds[0].reason!r}")
        await house.resume("steps", ME)
        async with house.events(Filter(run=run.id), after="0") as events:
            seen: list[str] = []
            while not seen or seen[-1] != "end":
                seen += [frame.event for frame in await events.receive()]
        ended = await house.run(run.id)
        print(f"the run is {ended.status} after {ended.attempts} attempts: {ended.result}")
        print("its story:", *[event for event in seen if event.startswith("run.")])
        gone = await house.dispose("steps", ME)
        print(f"disposed, leaks: {gone.leaks}")
    return ended


async def step(house: EmbeddedHouse, run: str, wanted: int) -> None:
    """Wait until the run's slice `progress` shows step `wanted`: an event, not a timer, says so."""
    async with house.events(Filter(run=run, slices=("progress",), types=("state",)), after="0") as events:
        while True:
            await events.receive()
            if (await house.slice("steps", "progress")).value["step"] >= wanted:
                return


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="enginehouse-example-") as temporary:
        trio.run(main, Path(temporary))
