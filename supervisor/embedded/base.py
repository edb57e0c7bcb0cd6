"""What the files beside this one share: finding, waiting, and turning records into what is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from actors.cell import Cell
from protocol import errors
from protocol.authority import Authority
from protocol.edge import as_json
from protocol.errors import EngineDisposed, EnginehouseError, InvalidState, NotFound, ValidationFailed
from protocol.events import encode
from protocol.plan import allowed
from protocol.records import CommandRecord, Record
from protocol.runs import Run
from protocol.states import State
from protocol.view import View
from protocol.wire import Accepted, CommandInfo, EngineInfo, Page, RunInfo
from supervisor.house import Caller
from supervisor.infos import command_info, run_info
from supervisor.pools import Pool
from supervisor.receipts import Receipt
from supervisor.store.contract import Page as Query
from supervisor.supervisor import Supervisor

__all__ = ["Base", "fingerprint", "page_of"]

T = TypeVar("T")


def fingerprint(caller: Caller, *parts: Any) -> str:
    """What was asked under an idempotency key. Raises ValueError or TypeError for what is not JSON, or too deep for the
    row that is furthest around it: a dead letter's, which has one level more than we give it here.
    """
    return caller.digest or hashlib.sha256(encode([as_json(part) for part in parts], within=1)).hexdigest()


def cursor_of(cursor: str | None) -> int | None:
    """The `seq` before which a page begins. Raises ValidationFailed."""
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValidationFailed(
            "The cursor is none that a list gave you.",
            errors=[{"loc": ["cursor"], "msg": "not a cursor", "type": "cursor"}],
        )
    return int(cursor)


def page_of(found: list[Any], limit: int, show: Callable[[Any], T], seq: Callable[[Any], int]) -> Page[T]:
    """One page of what was found with a limit of `limit` + 1."""
    more = len(found) > limit
    items = found[:limit]
    return Page(items=[show(item) for item in items], next_cursor=str(seq(items[-1])) if more and items else None)


ERRORS = {c.slug: c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EnginehouseError)}


def refusal(problem: dict[str, Any]) -> EnginehouseError:
    """What a command was rejected with, from its record."""
    extra = {name: value for name, value in problem.items() if name not in ("slug", "detail")}
    return ERRORS.get(problem.get("slug", ""), InvalidState)(problem.get("detail", ""), **extra)


class Base:
    """Holds the supervisor, and whose eyes it is seen with: what `authority` does not see is not there (None: all is).

    Every look-up of the files beside this one goes through here.
    """

    def __init__(self, supervisor: Supervisor, authority: Authority | None = None) -> None:
        self.supervisor = supervisor
        self.authority = authority

    # -- finding -----------------------------------------------------------------------------------------------------
    def _sees(self, pool: str, uid: str | None = None) -> bool:
        return self.authority is None or self.authority.sees(pool, uid)

    def _view(self, engine: str) -> View:
        """The view of an engine, disposed or not. Raises NotFound."""
        view = self.supervisor.view(engine)
        if not self._sees(view.spec.pool, view.spec.uid):
            raise NotFound(f"There is no engine {engine!r}.")
        return view

    def _live(self, engine: str) -> View:
        """The same; raises EngineDisposed too."""
        view = self._view(engine)
        if view.state is State.DISPOSED:
            raise EngineDisposed(f"Engine {engine} is disposed. Spawn it anew if you need it.")
        return view

    def _cell(self, engine: str) -> Cell:
        """The cell of an engine. Raises NotFound, EngineDisposed."""
        self._view(engine)
        return self.supervisor.cell(engine)

    def _pool(self, id: str) -> Pool:
        """Raises NotFound."""
        pool = self.supervisor.pools.get(id)
        if not self._sees(id):
            raise NotFound(f"There is no pool {id!r}.")
        return pool

    # -- showing -----------------------------------------------------------------------------------------------------
    def _engine(self, uid: str) -> EngineInfo:
        return self.supervisor.info(self.supervisor.views[uid])

    def _run_info(self, run: Run) -> RunInfo:
        house = self.supervisor
        view = house.views.get(run.uid)
        live = view.runs.get(run.id) if view is not None else None
        return run_info(
            live or run, cell=house.cells.get(run.uid), mean_s=view.run_s if view else 0.0, wall=house.wall()
        )

    async def _run(self, id: str) -> Run:
        """The run as it is seen; the store may be a batch ahead of that."""
        house = self.supervisor
        run = None if id in house.open_runs else await house.store.get("run", id)
        if id in house.open_runs:
            run = house.views[house.open_runs[id]].runs[id]
        if not isinstance(run, Run) or not self._sees(run.pool, run.uid):
            raise NotFound(f"There is no run {id!r}.")
        return run

    async def _record(self, kind: str, id: str, what: str) -> Record:
        record = await self.supervisor.store.get(kind, id)
        if record is None or not self._sees(record.pool, record.uid):
            raise NotFound(f"There is no {what} {id!r}.")
        return record

    async def _records(
        self, kind: str, *, limit: int, cursor: str | None, engine: str | None = None, pool: str | None = None,
        statuses: tuple[str, ...] | None = None,
    ) -> list[Any]:  # fmt: skip
        uid = self._view(engine).spec.uid if engine is not None else None
        pools: tuple[str, ...] | None = (pool,) if pool is not None else None
        seen = self.authority
        if seen is not None and seen.engine is not None:
            uid = seen.engine if uid in (None, seen.engine) else ""
        elif seen is not None and seen.pools is not None:
            pools = tuple(sorted(seen.pools if pool is None else seen.pools & {pool}))
        query = Query(uid=uid, pools=pools, statuses=statuses, before=cursor_of(cursor), limit=limit + 1)
        return list(await self.supervisor.store.list(kind, query))

    async def _accepted(self, receipt: Receipt) -> Accepted:
        """The 202 of a command, also of one that is a replay. Raises again what the first was rejected with."""
        if receipt.replay is not None:
            record = await self._record("command", receipt.replay.command_id, "command")
            assert isinstance(record, CommandRecord)
            if record.state == "rejected":
                raise refusal(record.problem or {})
            return Accepted(
                command_id=record.id, engine_id=record.engine_id, type=record.type, state=record.state,
                seq=record.seq, run_id=record.run_id, replayed=True,
            )  # fmt: skip
        command = receipt.command
        assert command is not None
        view = self.supervisor.views[command.uid]
        return Accepted(
            command_id=command.id, engine_id=view.spec.id, type=command.type, state="accepted", seq=receipt.seq,
            run_id=command.run_id,
        )  # fmt: skip

    # -- waiting -----------------------------------------------------------------------------------------------------
    async def _effect(self, uid: str, accepted: Accepted) -> CommandInfo:
        """Wait until the effect of a command is reached; InvalidState when a later one made that impossible."""
        reached, lost = EFFECTS.get(accepted.type, AT_ONCE)

        def look(view: View) -> tuple[bool, State, bool] | None:
            if accepted.command_id in view.owed:  # what it causes is in one write with its settling
                return None
            there = reached(view)
            return (there, view.state, bool(view.holds)) if there or lost(view) else None

        there, state, held = await self.supervisor.watch(uid, look)
        if not there:
            raise InvalidState(
                f"This {accepted.type} is not to be reached any more: engine {accepted.engine_id} is {state}.",
                state=state.value,
                allowed=allowed(state, actor=state not in ENDED, held=held),
            )
        record = await self._record("command", accepted.command_id, "command")
        assert isinstance(record, CommandRecord)
        return command_info(record)

    async def _within(self, wait_s: float | None, fn: Callable[[], Any]) -> Any:
        """The result of `fn`, or None when it took longer than `wait_s`."""
        if wait_s is None:
            return None
        with trio.move_on_after(wait_s):
            return await fn()
        return None


ENDED = (State.STOPPED, State.FAILED, State.DISPOSED)
Seen = Callable[[View], bool]
AT_ONCE: tuple[Seen, Seen] = (lambda view: True, lambda view: False)
EFFECTS: dict[str, tuple[Seen, Seen]] = {
    "pause": (
        lambda view: view.state not in (State.RUNNING, State.STARTING, State.PAUSING) and bool(view.holds),
        lambda view: not view.holds or view.state in ENDED,
    ),
    "resume": (
        lambda view: bool(view.holds) or view.state not in (State.PAUSING, State.PAUSED, State.STARTING),
        lambda view: view.state is State.DISPOSED,
    ),
    "start": (
        lambda view: view.state in (State.RUNNING, State.PAUSED),
        lambda view: view.state in (*ENDED, State.STOPPING),
    ),
    "restart": (
        lambda view: view.state in (State.RUNNING, State.PAUSED),
        lambda view: view.state in ENDED,
    ),
    "stop": (
        lambda view: view.state in ENDED,
        lambda view: view.state in (State.STARTING, State.RUNNING),
    ),
    "dispose": (lambda view: view.state is State.DISPOSED, lambda view: False),
}
"""When the effect of a control command is seen, and when it never will be."""
