"""Recovery: from what the journal says to engines that go on.

Views are folded from snapshots and what came after them; cells are made from views. Then, engine by engine: what was in
hand is interrupted and follows its policy, what was queued is queued again in order, control commands that were
accepted and not settled are applied again (all are idempotent), and whoever was up and is not held boots. Every step
writes rows, so a house that dies in the middle of this recovers again from where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.cell import Cell
from actors.delivery import deliver
from actors.digest import Digest
from actors.envelope import Envelope
from protocol.commands import Body, Command, Signal, Submit
from protocol.edge import adapter, load
from protocol.errors import EngineDisposed
from protocol.events import Row
from protocol.fold import fold
from protocol.runs import OnBusy, RunStatus
from protocol.specs import PoolSpec
from protocol.states import State
from protocol.trace import Trace
from protocol.view import Owed, View
from supervisor.drain import drain, drain_house
from supervisor.unclaimed import end_unclaimed

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["recover", "restore"]

PAGE = 1000


async def recover(house: Supervisor) -> None:
    """Bring back everything that the store holds. Idempotent, and safe to be killed at any point."""
    store = house.store
    for document in await store.documents("pool"):
        house.pools.put(load(PoolSpec, document.body))
    for snapshot in await store.snapshots():
        house.views[snapshot.uid] = load(View, snapshot.body)
    for row in await store.tail():
        house.views[row.uid] = fold(house.views.get(row.uid), row)
    house.folded = house.rings.house.lost = (await store.bounds()).latest  # what was is in the journal alone
    views = sorted(house.views.values(), key=lambda view: view.spec.uid)
    await end_unclaimed(house, views)
    house.views = {view.spec.uid: view for view in views}
    house.open_runs = {run_id: view.spec.uid for view in views for run_id in view.runs}
    for view in sorted(views, key=lambda view: (view.state is not State.DISPOSED, view.seq)):
        house.ids[view.spec.id] = view.spec.uid  # of those that had the id, the one that lives, else the last
        house.pools.count_usage(view.spec.pool, view.usage)
    digests = {view.spec.uid: await _digests(house, view) for view in views if view.runs}
    owed: dict[Cell, list[Command]] = {}
    for view in views:
        if view.state is not State.DISPOSED:
            cell = house.make_cell(view.spec)
            owed[cell] = restore(cell, view, digests.get(view.spec.uid, {}))
        elif view.owed:
            _refuse(house, view)
    _go_on(house, owed, drained=bool(await store.documents("house")))
    house.folders.sweep()
    house.delegated.restore()
    await house.intake.write_and_wait(())  # behind all that was just decided: nobody sees the state of before


def _go_on(house: Supervisor, owed: dict[Cell, list[Command]], *, drained: bool) -> None:
    """Who was up has its place in the pool again before those who waited for one, and they in the order they came."""
    up = [cell for cell in owed if cell.state is State.PAUSED and not cell.held]
    waiting = sorted(owed.keys() - set(up), key=lambda cell: _since(house.views[cell.spec.uid]))
    for cell in up:
        _redeliver(cell, owed[cell])
        if cell.state is State.PAUSED and not cell.held and cell.actor is None:
            with cell.turn():
                cell.boot("recovery")
    for cell in waiting:
        _redeliver(cell, owed[cell])
        cell.wake()
        house.expiry.watch(cell)
    if drained:
        drain_house(house)
    for pool in house.pools:
        if pool.spec.draining:
            drain(house, pool)


def _since(view: View) -> int:
    """Since which `seq` an engine owes something."""
    return min((owed.seq for owed in view.owed.values()), default=0)


async def _digests(house: Supervisor, view: View) -> dict[str, Digest]:
    """The digests of the open runs, as far as they have come."""
    found: dict[str, Digest] = {}
    for run_id in view.runs:
        digest, after = Digest(), 0
        while rows := await house.store.read(after=after, run_id=run_id, limit=PAGE):
            for row in rows:
                if row.type != "command.accepted":
                    digest.add({"type": row.type, "time": row.time, "data": row.data})
            after = rows[-1].seq
        found[run_id] = digest
    return found


def restore(cell: Cell, view: View, digests: dict[str, Digest]) -> list[Command]:
    """Make the cell what its view says, and settle what the death of the last house left open. The commands that it
    still owes (but for its runs, which are queued again), in order.
    """
    owed = [_command(o, view) for o in sorted(view.owed.values(), key=lambda o: o.seq) if o.type != "submit"]
    cell.restore(view)
    with cell.turn():
        _restore_runs(cell, view, digests)
        cell.lost()
    return owed


def _redeliver(cell: Cell, owed: list[Command]) -> None:
    for command in owed:
        if isinstance(command.body, Signal) and cell.state is not State.DISPOSED:
            with cell.turn():
                cell.receive(Envelope(command.body.name, command.body.payload, command=command, at=cell.host.now()))
        else:
            deliver(cell, command)


def _restore_runs(cell: Cell, view: View, digests: dict[str, Digest]) -> None:
    """Queued runs in their order; then those that go first; last, and so in front, the one that was in hand."""
    runs = sorted(view.runs.values(), key=lambda run: (run.status is not RunStatus.QUEUED, run.front, run.seq))
    for run in runs:
        owed = view.owed.get(run.command_id or "")
        assert owed is not None, f"open run {run.id} of a settled command"
        cell.runs.restore(run, _command(owed, view), digests[run.id])
    _supersede(cell, view)


def _supersede(cell: Cell, view: View) -> None:
    """What a run that goes first was to cancel, and had not when the house died, is cancelled now."""
    for run in sorted(view.runs.values(), key=lambda run: run.seq):
        on_busy = view.owed[run.command_id or ""].body["on_busy"]
        if run.attempts or on_busy not in (OnBusy.INTERRUPT, OnBusy.REPLACE):
            continue
        for older in [r for r in view.runs.values() if r.seq < run.seq and r.id in cell.runs.open]:
            if older.attempts or on_busy == OnBusy.REPLACE:
                cell.runs.supersede(older.id, run.principal)


def _command(owed: Owed, view: View) -> Command:
    data: dict[str, Any] = dict(owed.body)
    run = view.runs.get(owed.run_id or "")
    retry_of, trace = data.pop("retry_of", None), data.pop("trace", None)
    if run is not None:
        data["input"] = run.input
    body: Any = adapter(Body).validate_python(data, strict=False)
    assert run is None or isinstance(body, Submit)
    asked_by = tuple(run.asked_by) if run is not None else (owed.principal,) if owed.principal is not None else ()
    return Command(
        id=owed.id, uid=view.spec.uid, body=body, principal=owed.principal, run_id=owed.run_id, retry_of=retry_of,
        asked_by=asked_by, trace=None if trace is None else load(Trace, trace), time=owed.time, seq=owed.seq,
    )  # fmt: skip


def _refuse(house: Supervisor, view: View) -> None:
    """A disposed engine owes nothing: commands that were accepted in its last batch get their one end."""
    error = EngineDisposed(f"Engine {view.spec.id} was disposed before this was delivered.")
    common: dict[str, Any] = {
        "time": house.stamp(), "uid": view.spec.uid, "engine_id": view.spec.id, "pool": view.spec.pool,
        "incarnation": view.incarnation,
    }  # fmt: skip
    rows: list[Row] = []
    for owed in view.owed.values():
        if owed.run_id in view.runs:
            ended = {"by": None, "reason": error.slug, "error": error.problem}
            rows.append(Row(type="run.cancelled", data=ended, run_id=owed.run_id, **common))
        rows.append(
            Row(
                type="command.rejected", data={"problem": error.problem}, command_id=owed.id, principal=owed.principal,
                **common,
            )
        )  # fmt: skip
    house.intake.write(tuple(rows))
