"""The whole story of an actor.

    live        while there is something to be: incarnate; then rest, or back off and boot again, or give up
    incarnate   one shielded scope, one nursery: on_start, ready, serve, on_stop; then the process tree, proven empty
    serve       take what the mailbox gives: a signal here, a run in its own task; else park
    quiesce     held: when nobody works any more, on_pause and `paused`; released: on_resume

Nothing here raises into the house's nursery: however an incarnation ends, it ends in one recorded `Exit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import trio

from actors.context import RunContext
from actors.engine import CannotAdopt, CannotStart, Engine, Finished, RunFailed, RunInput
from actors.envelope import Envelope
from actors.incarnation import Cut, Incarnation, InHand
from actors.output import Output, in_place, in_thread
from actors.told import Told
from protocol.decide import Cause, Exit
from protocol.edge import as_json
from protocol.events import encode
from protocol.states import State

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["live", "quiesce"]

BATCH, BATCH_S = 64, 0.001
"""How many messages, or how long, before the loop lets others run."""

RESULT_BYTES = 1 << 20
DETAIL_CHARS = 1 << 14
TREE_TERM_S = 2.0
"""How long the processes of a crashed incarnation have between TERM and KILL."""


async def live(cell: Cell) -> None:
    """One task for each engine that is not at rest. Never raises; ends when the engine is at rest, or the house is
    gone.
    """
    try:
        with cell.host.observer.inside(cell.spec, None):
            while cell.state in (State.STARTING, State.STOPPING):
                actor = cell.actor
                assert actor is not None
                exited = await incarnate(cell, actor)
                if cell.host.gone:
                    break
                delay_s = cell.exited(actor, exited)
                if cell.actor is None and delay_s is None:
                    break
                if delay_s is not None:
                    with trio.CancelScope() as cell.nap:
                        await trio.sleep(delay_s)
                    cell.nap = None
                    cell.backed_off()
    finally:
        cell.living = False
        cell.lot.unpark_all()


async def incarnate(cell: Cell, actor: Incarnation) -> Exit:
    """From boot to exit. Whatever goes wrong in here is in the answer."""
    cause, error, spared = Cause.ENDED, None, False
    try:
        with actor.scope:
            await _inhabit(cell, actor)
    except BaseException as raised:  # noqa: ASYNC103 - whatever an engine raises is its one recorded exit
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in _leaves(raised)):  # somebody means the whole program
            raise
        booting = cell.state is State.STARTING
        cause, error = _cause(raised, booting)
        spared = booting and all(isinstance(leaf, CannotAdopt) for leaf in _leaves(raised))
    leaks = await _end_processes(cell, actor, spared=spared)
    now = cell.host.now()
    if cell.ending:
        cleanup = error if cause is Cause.CRASHED else None
        cell.leaks = [*cell.leaks, *leaks]
        return Exit(Cause.ENDED, ran_s=now - actor.started_at, cleanup_error=cleanup)
    if cause is Cause.ENDED:
        cause, error = Cause.LOST, "the house went away"
    return Exit(cause, error, ran_s=now - actor.started_at)


async def _inhabit(cell: Cell, actor: Incarnation) -> None:
    if cell.state is State.STOPPING:  # asked to end between boot and our first step
        return
    engine = actor.engine = cell.kind(cell.config)
    lazy = not _overrides(engine, "on_start", "on_pause", "on_resume", "on_stop")
    if lazy:  # nothing to own before the first message, so no nursery yet: an idle engine is one task
        cell.ready()
        while not cell.ending and (cell.state is not State.RUNNING or not len(cell.mailbox)):
            cell.idle.begin()
            await cell.lot.park()
    async with trio.open_nursery(strict_exception_groups=True) as actor.nursery:
        if not lazy:
            with trio.move_on_after(cell.spec.boot_s) as boot:
                await engine.on_start(actor.ctx)
            if boot.cancelled_caught:
                raise TimeoutError(f"on_start did not return within {cell.spec.boot_s} s")
            if not cell.ending:
                cell.ready()
        await _serve(cell, actor, engine)
        while actor.quiescing:  # on_pause or on_resume is running: one callback at a time
            await cell.lot.park()
        actor.step = "stopping"
        await engine.on_stop(actor.ctx)
        while actor.run is not None:
            await cell.lot.park()
        actor.nursery.cancel_scope.cancel()


async def _serve(cell: Cell, actor: Incarnation, engine: Engine) -> None:
    taken, since = 0, trio.current_time()
    while not cell.ending:
        envelope = None if actor.shut else cell.mailbox.take(run_free=actor.run is None)
        if envelope is None:
            if actor.run is None and not cell.held:
                cell.idle.begin()
            await cell.lot.park()
            taken, since = 0, trio.current_time()
            continue
        if envelope.is_run:
            actor.run = InHand(envelope)
            assert actor.nursery is not None
            actor.nursery.start_soon(_run, cell, actor, engine, actor.run)
        else:
            await _handle(cell, actor, engine, envelope)
        taken += 1
        if taken >= BATCH or trio.current_time() - since >= BATCH_S:
            await trio.lowlevel.checkpoint()
            taken, since = 0, trio.current_time()


async def _handle(cell: Cell, actor: Incarnation, engine: Engine, envelope: Envelope) -> None:
    """A signal. An exception leaves it in hand: it becomes a dead letter, and the actor has crashed."""
    task = trio.lowlevel.current_task()
    actor.working.add(task)
    try:
        value = await engine.on_signal(actor.ctx, envelope.name, envelope.payload)
    finally:
        actor.working.discard(task)
        if cell.held:
            cell.lot.unpark_all()
    if cell.actor is not actor:  # a leak by now: its envelope has had its end
        return
    command = envelope.command
    if command is not None:
        data = {"changed": True, "result": as_json(value)}
        cell.note("command.completed", data, command_id=command.id, principal=command.principal)
    cell.mailbox.end(envelope, "handled")
    if envelope.reply is not None and not envelope.reply.set(value):
        cell.host.late(cell)


async def _run(cell: Cell, actor: Incarnation, engine: Engine, hand: InHand) -> None:
    """One run: `run.started` is durable and the gate open before the author's code; its end is one write."""
    envelope = hand.envelope
    assert envelope.run_id is not None
    hand.task = task = trio.lowlevel.current_task()
    run = RunInput(
        id=envelope.run_id, input=envelope.payload, attempt=envelope.attempt, resumed=envelope.resumed,
        labels=dict(envelope.labels or {}),
    )  # fmt: skip
    output = _output(cell, actor, run)
    how, data = "completed", {}
    actor.working.add(task)
    try:
        with hand.scope:
            cell.note(
                "run.started",
                {"attempt": run.attempt},
                run_id=run.id,
                command_id=envelope.command.id if envelope.command else None,
            )
            await actor.quietly(cell.barrier)
            actor.progress_at, actor.step = actor.clock.time(), "on_run"
            actor.watch()
            ctx = RunContext(cell, actor, run, output)
            try:
                if envelope.timeout_s is None:
                    data = _result(await _inside(cell, engine, ctx, run))
                else:
                    with actor.clock.scope(envelope.timeout_s) as limit:
                        data = _result(await _inside(cell, engine, ctx, run))
                    if limit.cancelled_caught:
                        hand.cut = hand.cut or Cut.TIMED_OUT
                        hand.scope.cancel()
                        await trio.lowlevel.checkpoint()
            except* RunFailed as failed:
                first = next(_leaves(failed))
                assert isinstance(first, RunFailed)
                how = "failed"
                data = _failure(first)
    finally:
        actor.unwatch()
        with trio.CancelScope(shield=True):
            await output.close()
    if cell.actor is not actor:  # a leak by now: its run has had its end
        return
    with cell.turn():
        if hand.scope.cancelled_caught:
            cell.runs.cut(hand)
        else:
            cell.runs.finish(envelope, how, {**data, "usage": dict(hand.usage)})
        actor.run = None
    actor.working.discard(task)  # not before its end is said: until then the engine is not quiet
    cell.lot.unpark_all()


async def _inside(cell: Cell, engine: Engine, ctx: RunContext, run: RunInput) -> Any:
    with cell.host.observer.inside(cell.spec, run.id):
        return await engine.on_run(ctx, run)


async def quiesce(cell: Cell, actor: Incarnation) -> None:
    """Held until released: freeze what must be frozen, tell the engine when nobody works, and again when it goes on."""
    actor.quiescer = trio.lowlevel.current_task()
    engine = actor.engine
    try:
        while not cell.ending:
            held = cell.state in (State.PAUSING, State.PAUSED)
            if held and actor.wants_freeze and not actor.frozen:
                actor.step = "freezing the process tree"
                await actor.tree.freeze()
            elif actor.frozen and not held:  # also a hold of another mode keeps still what stands still
                actor.tree.thaw()
            elif cell.state is State.PAUSING and actor.quiescent:
                if not actor.told:
                    actor.told, step, actor.step = True, actor.step, "on_pause"
                    await engine.on_pause(actor.ctx)
                    actor.step = step
                else:
                    cell.quiet()
            elif not held and actor.told:
                await engine.on_resume(actor.ctx)
                actor.told = False
            elif held:
                await cell.lot.park()
            else:
                break
    finally:
        actor.quiescer, actor.quiescing = None, False
        cell.lot.unpark_all()


def _output(cell: Cell, actor: Incarnation, run: RunInput) -> Output:
    return Output(
        cell.host.runs_directory,
        run.id,
        attempt=run.attempt,
        publish=lambda data: cell.transient("run.output", data, run_id=run.id),
        chunk=lambda data: cell.note("run.output_chunk", data, run_id=run.id) if cell.actor is actor else None,
        later=lambda seconds, fn: cell.host.at(cell.host.now() + seconds, fn),
        ask=in_thread if cell.host.threads else in_place,
        masking=cell.secrets.stream(),
    )


def _result(value: Any) -> dict[str, Any]:
    result = as_json(value)
    size = len(encode(result, within=2))  # the envelope and the data of the row
    if size > RESULT_BYTES:
        raise RunFailed("result-too-large", f"The result has {size} bytes; the limit is {RESULT_BYTES}.")
    return {"result": result}


def _failure(failed: RunFailed) -> dict[str, Any]:
    """Why it failed, and what came of it all the same, as far as there is room for both."""
    data: dict[str, Any] = {"error": {"slug": _sound(failed.slug), "detail": _sound(failed.detail)}}
    if failed.result is not None:
        try:
            data |= _result(failed.result)
        except RunFailed as large:
            data["error"]["detail"] += f" {large.detail}"
    return data


async def _end_processes(cell: Cell, actor: Incarnation, *, spared: bool) -> list[dict[str, Any]]:
    """TERM, then KILL, until the tree is proven empty; what could not be ended is named. `spared`: one that lasts
    stays for the engine's next start, unless somebody has asked it to end.
    """
    if not actor.has_processes:
        return []
    if actor.leaves_processes or (spared and actor.tree.lasts and not cell.ending):
        await actor.tree.leave()
        return []
    term_s = min(actor.left_s, TREE_TERM_S) if not actor.bounded else min(actor.left_s, cell.spec.grace_s)
    with trio.CancelScope(shield=True):
        leaks = await actor.tree.end(term_s)
    return [{"what": "process", "pid": leak.pid, "name": leak.name, "why": leak.why} for leak in leaks]


def _overrides(engine: Engine, *callbacks: str) -> bool:
    return any(getattr(type(engine), name) is not getattr(Engine, name) for name in callbacks)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting = [error]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, BaseExceptionGroup):
            waiting += reversed(inner.exceptions)
        else:
            yield inner


def _cause(error: BaseException, booting: bool) -> tuple[Cause, str | None]:
    """What an exception out of an incarnation means. `booting`: it came before `ready`."""
    leaves = list(_leaves(error))
    if all(isinstance(leaf, Finished) for leaf in leaves):
        return Cause.FINISHED, None
    worst = next(leaf for leaf in leaves if not isinstance(leaf, Finished))
    if booting and isinstance(worst, CannotStart):
        return Cause.UNMENDABLE, _text(worst)
    text = _text(worst)
    if isinstance(worst, Told) and text:
        return Cause.CRASHED, text
    name = type(worst).__name__
    return Cause.CRASHED, f"{name}: {text}" if text else name


def _text(error: BaseException) -> str:
    """What an exception says, as far as a row has room for it. Their classes may be anybody's, and break as well."""
    try:
        return _sound(str(error))
    except BaseException as broken:  # noqa: BLE001, ASYNC103 - see above
        said = type(broken).__name__
    return f"its text could not be had ({said})"


def _sound(text: str) -> str:
    """As much of a text as a row has room for. One that names a file may hold what no row can (PEP 383)."""
    return text[:DETAIL_CHARS].encode(errors="replace").decode()
