"""Acting once: what a schedule does when it is due, under a key that makes it once also across crashes.

The key is the time that was due, so whoever asks again for the same time, in this life of the house or the next, finds
the command that was accepted and sends no second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from protocol.authority import Authority
from protocol.errors import EnginehouseError, Missing, Unavailable
from protocol.runs import RunStatus
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller
from supervisor.schedules.values import Firing, Overlap, ScheduleInfo

__all__ = ["act", "key_of"]

PATIENCE_S = 60.0
"""How long the house may take to accept a command, spawning the engine included."""


def key_of(info: ScheduleInfo, due_at: str) -> str:
    """The idempotency key of one time."""
    return f"schedule:{info.id}:{due_at}"


async def act(
    house: EmbeddedHouse,
    info: ScheduleInfo,
    standing: Callable[[], Authority],
    *,
    key: str,
    due_at: str | None,
    last_run: str | None,
    asked_by: tuple[str, ...] = (),
) -> Firing:
    """Do what the schedule says, once for `key`. What refuses it is told in the firing. `standing`: what it may, asked
    when a command is journaled; `asked_by`: who runs it by hand.

    Raises Unavailable when the house cannot say; ask again for the same key in its next life. Cancelled: it may have
    been accepted all the same.
    """
    caller = Caller(principal=f"schedule:{info.id}", key=key, standing=standing, asked_by=asked_by)
    firing = Firing(due_at=due_at, at=house.supervisor.stamp(), result="fired")
    earlier = await _accepted(house, firing, caller)
    if earlier is not None:
        return earlier
    try:
        with trio.fail_after(PATIENCE_S):
            return await _send(house.seen_by(standing()), info, firing, caller, last_run)
    except Unavailable:
        raise
    except EnginehouseError as refusal:
        return replace(firing, result="refused", reason=f"{refusal.slug}: {refusal.detail}")
    except trio.TooSlowError:
        late = await _accepted(house, firing, caller)
        return late or replace(firing, result="refused", reason=f"The house did not accept it in {PATIENCE_S:g} s.")


async def _accepted(house: EmbeddedHouse, firing: Firing, caller: Caller) -> Firing | None:
    """What was accepted under this key, if anything was."""
    replay = await house.supervisor.store.key(caller.principal, caller.key or "")
    if replay is None:
        return None
    command = await house.get_command(replay.command_id)
    return replace(firing, run_id=command.run_id, command_id=command.id)


async def _send(
    house: EmbeddedHouse, info: ScheduleInfo, firing: Firing, caller: Caller, last_run: str | None
) -> Firing:
    """`house`: with the eyes of the creator, whose authority is checked when a command is journaled."""
    engine = info.engine
    if engine is None:
        engine = (await house.get_or_spawn(info.pool, info.key or "", replace(caller, key=None)))[0].id
    if info.run is None:
        accepted, _ = await house.command(engine, info.command, caller)
        return replace(firing, command_id=accepted.command_id)
    if last_run is not None and info.overlap is not Overlap.ENQUEUE and await _goes_on(house, last_run):
        if info.overlap is Overlap.SKIP:
            return replace(firing, result="skipped", reason=f"Run {last_run} has not ended.")
        await house.cancel(last_run, replace(caller, key=None), reason="superseded by the next time of its schedule")
    run, accepted = await house.submit(engine, info.run, caller)
    return replace(firing, run_id=run.id, command_id=accepted.command_id)


async def _goes_on(house: EmbeddedHouse, run: str) -> bool:
    try:
        return not RunStatus((await house.run(run)).status).ended
    except Missing:
        return False
