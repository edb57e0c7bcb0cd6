"""Seeded schedules: clients that command, vanish and repeat; houses that close or are killed; and what must hold after.

A failing seed is printed by the test's own name; make it a test of its own then.
"""

import contextlib
import random
from typing import Any

import pytest
import trio

from protocol.bodies import NewPool
from protocol.commands import Approve, Cancel, Dispose, Pause, Restart, Resume, Signal, Start, Stop, Submit
from protocol.edge import dump
from protocol.errors import EnginehouseError, StoreUnavailable
from protocol.events import RUN_ENDS, SETTLING, Row
from protocol.fold import fold_all
from protocol.runs import OnBusy, Priority
from protocol.specs import Backoff, PauseMode, Strategy
from protocol.specs import Restart as RestartSpec
from protocol.states import State
from supervisor import Caller, EmbeddedHouse, NewEngine
from supervisor.store.memory import Journal
from tests.supervisor.houses import SlowStore, a_house, in_virtual_time, journaled, killed

ENGINES = ("a", "b", "c")
SOON = RestartSpec(max_restarts=20, backoff=Backoff(min_s=0.5, max_s=2))


def a_body(rng: random.Random) -> Any:
    work: list[Any] = [
        {"steps": 1}, {"steps": 2, "step_s": 0.5}, {"crash_at": 0}, {"fail_at": 1}, {"ask_at": 0},
        {"step_s": 3, "ignore_cancel_s": 1.0},
    ]  # fmt: skip
    return rng.choice(
        [
            *[Submit(input=i, priority=rng.choice(list(Priority)), on_busy=rng.choice(list(OnBusy))) for i in work],
            Submit(input={"step_s": 1}, queue_ttl_s=2.0, timeout_s=0.5), Signal(name="echo"), Signal(name="crash"),
            Pause(mode=rng.choice([None, PauseMode.INTERRUPT])), Pause(holder="x"), Resume(), Resume(holder="*"),
            Start(), Stop(grace_s=0.2), Restart(), Dispose(force=rng.random() < 0.5, grace_s=0.2), Cancel(), Approve(),
        ]
    )  # fmt: skip


async def client(house: EmbeddedHouse, rng: random.Random, name: str, times: int) -> None:
    for n in range(times):
        caller = Caller(principal=f"user:{name}", key=f"{name}{n}" if rng.random() < 0.5 else None)
        engine, body = rng.choice(ENGINES), a_body(rng)
        for _ in range(rng.choice([1, 1, 2])):
            with trio.move_on_after(rng.choice([0.0, 0.004, 0.02, 3.0])):
                try:
                    if rng.random() < 0.25:
                        new = NewEngine(kind="probe", id=engine, pool="p", restart=SOON, idle_s=2.0, mailbox_size=6)
                        await house.put(engine, new)
                    else:
                        await house.command(engine, body, caller, wait_s=rng.choice([None, 1.0]))
                except StoreUnavailable:
                    raise
                except EnginehouseError:
                    pass
        await trio.sleep(rng.choice([0.0, 0.001, 0.1, 1.0]))


async def clients(house: EmbeddedHouse, rng: random.Random) -> None:
    async with trio.open_nursery() as nursery:
        for name in "uvw":
            nursery.start_soon(client, house, rng, name, rng.randrange(3, 9))


def settled_once(rows: list[Row]) -> set[str]:
    """The commands that are still owed; every other has exactly one end."""
    accepted = [row.command_id or "" for row in rows if row.type == "command.accepted"]
    settled = [row.command_id or "" for row in rows if row.type in SETTLING]
    assert len(set(accepted)) == len(accepted)
    assert len(set(settled)) == len(settled)
    assert set(settled) <= set(accepted)
    ended = [row.run_id for row in rows if row.type in RUN_ENDS]
    assert len(set(ended)) == len(ended)
    return set(accepted) - set(settled)


async def holds(house: EmbeddedHouse) -> None:
    """What must be so at rest: cell == view == fold of the journal; accepted = settled + queued; mailboxes balance."""
    await house.supervisor.intake.write_and_wait(())
    inner = house.supervisor
    rows = await journaled(inner.store)
    owed = settled_once(rows)
    assert owed == {command for view in inner.views.values() for command in view.owed}
    for uid, view in inner.views.items():
        own = [row for row in rows if row.uid == uid]
        assert [row.engine_seq for row in own] == list(range(1, len(own) + 1))
        assert dump(fold_all(own)) == dump(view)
        cell = inner.cells.get(uid)
        if view.state is State.DISPOSED:
            assert cell is None
            assert not view.owed
            assert not view.runs
            continue
        assert cell is not None
        assert (cell.state, cell.aim, cell.incarnation) == (view.state, view.aim, view.incarnation)
        assert cell.holds == view.holds
        assert set(cell.runs.open) == set(view.runs)
        assert cell.mailbox.reserved == 0
    assert house.statistics().unbalanced == ()


async def three_lives(seed: int) -> None:
    rng, journal = random.Random(seed), Journal()
    strategy = rng.choice(list(Strategy))
    for life in range(3):
        store = SlowStore(journal, delay_s=rng.choice([0.0, 0.001, 0.01]))
        open_ = killed if rng.random() < 0.6 else a_house
        async with open_(journal, store=store, grace_s=rng.choice([0.1, 1.0])) as house:
            if "p" not in house.supervisor.pools:
                await house.create_pool(NewPool(id="p", strategy=strategy, max_running=rng.choice([None, 2])))
            del life
            with trio.move_on_after(rng.uniform(0.05, 20)):
                await clients(house, rng)
    async with a_house(journal) as house:
        for engine in ENGINES:  # let everything come to rest
            with contextlib.suppress(EnginehouseError):
                await house.command(engine, Resume(holder="*"))
        await trio.sleep(300)
        await holds(house)


@pytest.mark.parametrize("seed", range(60))
def test_what_was_accepted_is_never_lost(seed: int) -> None:
    in_virtual_time(three_lives, seed)
