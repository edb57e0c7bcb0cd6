"""A house on virtual time, with short words for what tests do to its engines.

Wall time and monotonic time are one clock that begins at 0, so the time of a row is the second in which it happened.
When the stage is left, every mailbox must be balanced, every accepted command must have had its one end or be owed, and
what is seen of an engine must be what it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import trio
import trio.testing

from actors import Engine
from protocol.bodies import NewEngine, NewRun, ReplyBody
from protocol.errors import EnginehouseError
from protocol.events import SETTLING
from protocol.specs import Backoff, PauseMode, Restart
from protocol.times import epoch_ms
from protocol.wire import RequestInfo, RunInfo
from protocol.writes import Write
from supervisor import Caller, EmbeddedHouse, MemoryStore, open_supervisor
from supervisor.store.memory import Journal

__all__ = ["ANN", "BASE_S", "BOB", "STEADY", "OpenStage", "SlowStore", "Stage", "opened"]

BASE_S = 1_700_000_000
ANN, BOB = Caller(principal="ann"), Caller(principal="bob")
STEADY = Restart(max_restarts=3, window_s=60, backoff=Backoff(min_s=1, max_s=8, factor=2, jitter=0), stable_s=30)
"""Restarts after 1, 2 and 4 seconds, to the millisecond."""


class SlowStore(MemoryStore):
    """A disk that takes `delay_s` for every commit."""

    delay_s = 0.0

    async def sync(self, batch: Sequence[Write]) -> None:
        await trio.sleep(self.delay_s)


class Stage:
    """One open house. `e` is the engine that every word is about unless it names another."""

    def __init__(self, house: EmbeddedHouse, store: SlowStore) -> None:
        self.house, self.store = house, store

    @staticmethod
    async def until(at_s: float) -> None:
        """Be here at this second, after everything that was to happen in it."""
        await trio.sleep_until(at_s)
        await trio.testing.wait_all_tasks_blocked()

    async def spawn(self, kind: type[Engine], id: str = "e", **spec: Any) -> str:
        spec.setdefault("restart", STEADY)
        info, _ = await self.house.spawn(NewEngine(kind=kind.kind, id=id, **spec))
        await trio.testing.wait_all_tasks_blocked()
        return info.id

    async def submit(self, input: Any = None, engine: str = "e", caller: Caller = ANN, **run: Any) -> str:
        """The id of the new run."""
        _, accepted = await self.house.submit(engine, NewRun(input=input, **run), caller)
        assert accepted.run_id is not None
        return accepted.run_id

    async def run(self, input: Any = None, engine: str = "e", **run: Any) -> RunInfo:
        """A run that has ended."""
        info, _ = await self.house.submit(engine, NewRun(input=input, **run), ANN, wait_s=50)
        return info

    async def status(self, run: str) -> str:
        return (await self.house.run(run)).status

    async def pause(self, caller: Caller = ANN, **more: Any) -> None:
        await self.house.pause("e", caller, **more)

    async def resume(self, caller: Caller = ANN, **more: Any) -> None:
        await self.house.resume("e", caller, **more)

    async def interrupt(self) -> None:
        await self.house.pause("e", ANN, mode=PauseMode.INTERRUPT)

    async def state(self, engine: str = "e") -> str:
        """What is seen of it."""
        return (await self.house.get(engine)).state

    async def pending(self) -> RequestInfo:
        """The one request that waits."""
        (request,) = (await self.house.requests()).items
        return request

    async def reply(self, option: str | None = None, answer: Any = None, caller: Caller = BOB) -> None:
        await self.house.reply((await self.pending()).id, ReplyBody(option=option, answer=answer), caller)

    async def rows(self, *types: str, engine: str = "e") -> list[dict[str, Any]]:
        """The envelopes of an engine, of these types or families (all, when none is named)."""
        uid = self.house.supervisor.view(engine).spec.uid
        rows = await self.store.read(after=0, until=self.house.supervisor.folded, uid=uid, limit=100_000)
        return [row.envelope() for row in rows if not types or {row.type, row.type.partition(".")[0]} & {*types}]

    async def data(self, type: str, engine: str = "e") -> list[dict[str, Any]]:
        return [row["data"] for row in await self.rows(type, engine=engine)]

    async def trace(self, *types: str, engine: str = "e") -> list[tuple[float, str]]:
        """When what happened: (second, type without its family)."""
        return [
            (round(epoch_ms(row["time"]) / 1000 - BASE_S, 3), row["type"].partition(".")[2])
            for row in await self.rows(*types, engine=engine)
        ]

    async def words(self, *types: str, engine: str = "e") -> list[str]:
        return [word for _, word in await self.trace(*types, engine=engine)]

    async def refused(self, asked: Callable[[], Any]) -> str:
        """The slug of what refuses this call."""
        try:
            await asked()
        except EnginehouseError as error:
            return error.slug
        raise AssertionError("it was not refused")

    async def check(self) -> None:
        """What is true at every moment at which nothing is on its way."""
        await trio.testing.wait_all_tasks_blocked()
        found = self.house.statistics()
        assert found.unbalanced == ()
        for view in self.house.supervisor.views.values():
            cell = self.house.supervisor.cells.get(view.spec.uid)
            rows = await self.store.read(after=0, uid=view.spec.uid, limit=100_000)
            accepted = [str(row.command_id) for row in rows if row.type == "command.accepted"]
            settled = [str(row.command_id) for row in rows if row.type in SETTLING]
            assert sorted(accepted) == sorted([*settled, *view.owed])
            assert [row.engine_seq for row in rows] == list(range(1, len(rows) + 1))
            if cell is not None and not found.store.queued_writes:
                seen = (view.state, view.aim, view.holds, view.incarnation, view.stalled, set(view.runs))
                assert seen == (cell.state, cell.aim, cell.holds, cell.incarnation, cell.stalled, set(cell.runs.open))
            if view.state == "disposed":
                types = [row.type for row in rows]
                after = types[types.index("engine.disposed") + 1 :]
                assert set(after) <= {"command.rejected"}


OpenStage = Callable[..., AbstractAsyncContextManager[Stage]]


@asynccontextmanager
async def opened(
    directory: Path, *kinds: type[Engine], journal: Journal | None = None, check: bool = True, **more: Any
) -> AsyncIterator[Stage]:
    store = SlowStore(journal)
    async with open_supervisor(
        store=store,
        kinds=kinds,
        directory=directory,
        wall=lambda: BASE_S + trio.current_time(),
        random=Random(1),
        **{"grace_s": 5.0, **more},
    ) as house:
        stage = Stage(house, store)
        yield stage
        store.delay_s = 0
        if check:
            await stage.check()
