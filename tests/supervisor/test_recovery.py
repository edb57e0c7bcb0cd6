"""A house that comes back over the same journal, after a kill or after it closed."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.engine import Engine, RunInput
from protocol.bodies import NewPool, PoolCommand, ReplyBody
from protocol.edge import dump
from protocol.errors import EngineDisposed, StoreUnavailable
from protocol.fold import fold_all
from protocol.runs import OnBusy, Priority
from protocol.specs import OnInterrupt, Restart
from supervisor import Caller, EmbeddedHouse, NewEngine, NewRun
from supervisor.store.memory import Journal, MemoryStore
from tests.supervisor.houses import (
    ALICE,
    KINDS,
    SlowStore,
    a_house,
    journaled,
    killed,
    regardless,
    run_until,
    spawn,
    submit,
    until,
    wall,
)


@pytest.fixture
def journal() -> Iterator[Journal]:
    """What survives a kill. However a test ends, its numbers have no gap, for each engine and for the whole."""
    kept = Journal()
    yield kept
    assert [row.seq for row in kept.rows] == list(range(1, len(kept.rows) + 1))
    for uid in {row.uid for row in kept.rows if row.uid}:
        own = [row.engine_seq for row in kept.rows if row.uid == uid and row.engine_seq]
        assert own == list(range(1, len(own) + 1))


async def states(house: EmbeddedHouse) -> dict[str, str]:
    return {info.id: info.state for info in (await house.list()).items}


async def test_every_state_comes_back_as_it_was(autojump_clock: MockClock, journal: Journal) -> None:
    never = Restart(max_restarts=0)
    async with killed(journal, kinds=KINDS) as house:
        await spawn(house, "running", "probe")
        await spawn(house, "stopped", "probe", start=False)
        await house.pause(await spawn(house, "paused", "probe"), ALICE, wait_s=5)
        await submit(house, await spawn(house, "pausing", "shielding"), 50)
        await until(house, "pausing", "running")
        await trio.sleep(1)
        await house.pause("pausing", ALICE)
        await spawn(house, "dormant", "probe", idle_s=1.0)
        await until(house, "dormant", "dormant")
        await submit(house, await spawn(house, "failed", "probe", restart=never), {"crash_at": 1})
        await until(house, "failed", "failed")
        await submit(house, await spawn(house, "backing_off", "probe"), {"crash_at": 1})
        await until(house, "backing_off", "backing_off")
        await house.dispose(await spawn(house, "disposed", "probe"))
        before = await states(house)
        assert before == {name: name for name in before}
    async with a_house(journal, kinds=KINDS) as house:
        await trio.sleep(1)
        assert await states(house) == {
            "running": "running", "stopped": "stopped", "paused": "paused", "pausing": "paused",
            "dormant": "dormant", "failed": "failed", "backing_off": "running",
        }  # fmt: skip
        with pytest.raises(EngineDisposed):
            await house.get("disposed")
        assert (await house.get("running")).incarnation == 2
        assert [hold.holder for hold in (await house.get("paused")).holds] == ["user:alice"]
        assert (await house.get("running")).restarts == 0
        assert house.statistics().unbalanced == ()


@pytest.mark.parametrize(
    "command, state", [("stop", "stopped"), ("restart", "running"), ("dispose", "disposed"), ("release", "paused")]
)
async def test_a_stopping_engine_ends_by_its_aim(
    autojump_clock: MockClock, journal: Journal, command: str, state: str
) -> None:
    async with killed(journal, kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a", "shielding", grace_s=60.0), 50)
        await run_until(house, run, "running")
        if command == "stop":
            await house.stop("a", ALICE)
        elif command == "restart":
            await house.restart("a", ALICE)
        elif command == "dispose":
            with trio.move_on_after(1):
                await house.dispose("a", ALICE, force=True)
        else:
            await house.restart("a", ALICE)
            await house.pause("a", ALICE)
        await until(house, "a", "stopping")
    async with a_house(journal, kinds=KINDS) as house:
        await trio.sleep(1)
        assert house.supervisor.view("a").state.value == state
        ended = await house.run(run)
        aims = {"stop": "cancelled", "dispose": "cancelled"}
        assert ended.status == aims.get(command, "failed")  # this kind's runs fail when they are interrupted
        if command in aims:
            assert ended.cancelled_by == "user:alice"


async def test_a_clean_close_and_a_kill_are_recovered_alike(autojump_clock: MockClock, journal: Journal) -> None:
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"steps": 3, "step_s": 10})
        await run_until(house, run, "running")
    async with a_house(journal) as house:
        await run_until(house, run, "running")
        assert (await house.get("a")).incarnation == 2
        await run_until(house, run, "ended")
        assert (await house.run(run)).attempts == 2


async def test_queued_runs_keep_their_order_priority_and_front(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe", on_interrupt=OnInterrupt.RETRY)
        inputs = {"steps": 1, "step_s": 1}
        first = await submit(house, "a", inputs)
        await run_until(house, first, "running")
        normal = [await submit(house, "a", inputs) for _ in range(3)]
        high = [await submit(house, "a", inputs, priority=Priority.HIGH) for _ in range(2)]
        gone = await submit(house, "a", inputs)
        await house.cancel(gone)
    async with a_house(journal) as house:
        for run in [first, *normal, *high]:
            await run_until(house, run, "ended")
        rows = await journaled(house.supervisor.store, lambda row: row.type == "run.started")
        # The one in hand goes first within its own lane: it is a normal one, and high ones go before those.
        assert [row.run_id for row in rows[1:]] in ([*high, first, *normal], [first, *high, *normal])
        assert (await house.run(gone)).status == "cancelled"


@pytest.mark.parametrize("policy, status", [(OnInterrupt.FAIL, "failed"), (OnInterrupt.RETRY, "completed")])
async def test_the_run_in_hand_follows_its_policy(
    autojump_clock: MockClock, journal: Journal, policy: OnInterrupt, status: str
) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe", on_interrupt=policy)
        run = await submit(house, "a", {"steps": 2, "step_s": 5})
        await run_until(house, run, "running")
    async with a_house(journal) as house:
        await run_until(house, run, "ended")
        found = await house.run(run)
        assert found.status == status
        assert (found.error or {}).get("slug") == (None if status == "completed" else "interrupted")


async def test_a_run_lost_too_often_fails(autojump_clock: MockClock, journal: Journal) -> None:
    run = ""
    for attempt in range(3):
        async with killed(journal) as house:
            if not attempt:
                await spawn(house, "a", "probe", max_attempts=2)
                run = await submit(house, "a", {"step_s": 60})
            if attempt < 2:
                await run_until(house, run, "running")
            else:
                await run_until(house, run, "ended")
                found = await house.run(run)
                assert (found.status, found.attempts) == ("failed", 2)


async def test_a_pending_request_is_found_again_by_the_retried_run(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0})
        await run_until(house, run, "waiting")
        (asked,) = (await house.requests()).items
    async with a_house(journal) as house:
        await run_until(house, run, "waiting")
        (again,) = (await house.requests()).items
        assert again.id == asked.id
        await house.reply(asked.id, ReplyBody(answer="yes"), ALICE)
        await run_until(house, run, "ended")
        assert (await house.run(run)).result["answers"] == ["yes"]


async def test_an_answer_that_was_not_used_is_used_after_the_restart(
    autojump_clock: MockClock, journal: Journal
) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0})
        await run_until(house, run, "waiting")
        await house.pause("a", ALICE, wait_s=5)
        (asked,) = (await house.requests()).items
        await house.reply(asked.id, ReplyBody(answer="yes"), ALICE)
    async with a_house(journal) as house:
        assert (await house.get("a")).state == "paused"
        assert (await house.requests()).items == []
        await house.resume("a", ALICE)
        await run_until(house, run, "ended")
        assert (await house.run(run)).result["answers"] == ["yes"]


async def test_a_request_deadline_that_passed_while_down_is_decided_at_once(
    autojump_clock: MockClock, journal: Journal
) -> None:
    options = [{"id": "no", "kind": "reject_once", "label": "No"}]
    ask = {"kind": "approval", "options": options, "deadline_s": 100, "default": "no"}
    async with killed(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0, "ask": ask})
        await run_until(house, run, "waiting")
    await trio.sleep(1000)
    async with a_house(journal) as house:
        began = trio.current_time()
        await run_until(house, run, "ended")
        assert trio.current_time() == began
        assert (await house.run(run)).result["answers"] == ["no"]
        (ended,) = (await house.requests(state="decided")).items
        assert (ended.state, (ended.decision or {})["by"]) == ("answered", "deadline")


async def test_a_request_that_expired_while_down_is_asked_again(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0, "ask": {"deadline_s": 100}})
        await run_until(house, run, "waiting")
    await trio.sleep(1000)
    async with a_house(journal) as house:
        await run_until(house, run, "waiting")
        (old,) = (await house.requests(state="decided")).items
        (new,) = (await house.requests()).items
        assert old.state == "expired"
        await house.reply(new.id, ReplyBody(answer="now"), ALICE)
        await run_until(house, run, "ended")
        assert (await house.run(run)).result["answers"] == ["now"]


async def test_a_queue_ttl_goes_on_while_down(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await house.pause(await spawn(house, "a", "probe"), ALICE, wait_s=5)
        run = await submit(house, "a", "hello", queue_ttl_s=50)
    await trio.sleep(100)
    async with a_house(journal) as house:
        await run_until(house, run, "ended")
        found = await house.run(run)
        assert (found.status, (found.error or {})["slug"]) == ("timed_out", "queue-ttl")
        assert (await house.get_command(found.command_id or "")).state == "expired"


async def test_work_wakes_a_dormant_engine_after_the_restart(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await spawn(house, "a", "probe", idle_s=1.0)
        await until(house, "a", "dormant")
    async with a_house(journal) as house:
        assert (await house.get("a")).state == "dormant"
        run, _ = await house.submit("a", NewRun(input="hello"), wait_s=5)
        assert run.status == "completed"
        assert (await house.get("a")).incarnation == 2


async def test_an_engine_of_a_kind_that_is_gone_fails_with_a_sentence_and_harms_nobody(
    autojump_clock: MockClock, journal: Journal
) -> None:
    class Custom(Engine):
        kind = "custom"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            return "done"

    async with killed(journal, kinds=[Custom]) as house:
        await spawn(house, "gone", "custom")
        await spawn(house, "idle", "custom", start=False)
        await spawn(house, "well", "probe")
        await house.pause("gone", ALICE, wait_s=5)
        run = await submit(house, "gone", None)
        await house.resume("gone", ALICE)
        await run_until(house, run, "ended")
        await spawn(house, "up", "custom")
    async with a_house(journal) as house:
        await until(house, "gone", "failed")
        await until(house, "well", "running")
        failed = await house.get("gone")
        assert failed.last_exit is not None
        assert "no kind 'custom'" in failed.last_exit["error"]
        assert (await house.get("idle")).state == "stopped"
        assert (await house.run(run)).result == "done"
        await house.dispose("up", force=True)
    async with a_house(journal, kinds=[Custom]) as house:
        await house.start("gone")
        done, _ = await house.submit("gone", NewRun(input=None), wait_s=5)
        assert done.result == "done"


async def test_recovering_twice_is_recovering_once(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        for n in range(3):
            await spawn(house, f"e{n}", "probe")
            await submit(house, f"e{n}", {"step_s": 60})
        await house.pause("e1", ALICE)
    seen = []
    for _ in range(2):
        async with killed(journal) as house:
            await house.supervisor.intake.write_and_wait(())
            seen.append(
                {
                    v.spec.id: (v.state, sorted(v.holds), [(r.status, r.id) for r in v.runs.values()], len(v.owed))
                    for v in house.supervisor.views.values()
                }
            )
            await house.pause("e0", ALICE, reason="so that it moves")
            await house.resume("e0", ALICE)
    assert seen[0].keys() == seen[1].keys() == {"e0", "e1", "e2"}
    assert seen[0]["e1"] == seen[1]["e1"]


async def test_snapshots_keep_the_tail_short(autojump_clock: MockClock, journal: Journal) -> None:
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        for _ in range(200):
            await house.submit("a", NewRun(input={}), wait_s=5)
        await house.stop("a")
        await until(house, "a", "stopped")
        at = house.supervisor.folded
    store = MemoryStore(journal)
    await store.open()
    assert at > 1000
    assert await store.tail() == []
    rows = await journaled(store)
    again = fold_all(row for row in rows if row.engine_seq)
    async with a_house(journal) as house:
        assert dump(house.supervisor.view("a")) == dump(again)


async def test_a_past_state_is_the_fold_up_to_there(autojump_clock: MockClock, journal: Journal) -> None:
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        await house.submit("a", NewRun(input={"steps": 30}), wait_s=5)
        rows = await journaled(house.supervisor.store, lambda row: bool(row.engine_seq))
        for row in rows:
            past = await house.state("a", at=row.seq)
            view = fold_all(await house.supervisor.store.read(after=0, until=row.seq))
            assert view is not None
            assert past.slices == {n: {"version": v.version, "value": v.value} for n, v in view.slices.items()}
        patched = next(row for row in rows if row.type == "state.patched")
        assert (await house.slice("a", "progress", at=patched.seq)).value == {"step": 0, "steps": 30}


async def test_control_accepted_and_not_settled_is_applied_after_the_restart(
    autojump_clock: MockClock, journal: Journal
) -> None:
    """The store took the command; the house died before it acted."""

    class Half(SlowStore):
        async def run(self, committed: Any) -> None:
            def deaf(commits: Any) -> None:
                if not self.deaf:
                    committed(commits)

            await super().run(deaf)

        deaf = False

    store = Half(journal, delay_s=0)
    with trio.move_on_after(5):
        async with a_house(store=store, kinds=KINDS, grace_s=0.1) as house:
            await spawn(house, "a", "probe")
            await spawn(house, "b", "probe")
            await spawn(house, "c", "probe", start=False)
            store.deaf = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: house.pause("a", ALICE))
                nursery.start_soon(lambda: house.dispose("b", ALICE))
                nursery.start_soon(lambda: house.start("c", ALICE))
                nursery.start_soon(lambda: house.submit("a", NewRun(input="hello"), ALICE))
                await trio.sleep(1)
                await MemoryStore(journal).open()
                nursery.cancel_scope.cancel()
            await trio.sleep_forever()
    async with a_house(journal) as house:
        await until(house, "c", "running")
        await until(house, "b", "disposed")
        assert (await house.get("a")).state == "paused"
        assert (await house.get("a")).mailbox.queued == 1
        owed = [view.owed for view in house.supervisor.views.values()]
        assert [len(o) for o in owed] == [1, 0, 0]  # the queued run alone


class Deaf(SlowStore):
    """From `deaf` on it keeps what it is given, and its house dies before it hears of it."""

    deaf = False

    async def run(self, committed: Any) -> None:
        await super().run(lambda commits: None if self.deaf else committed(commits))


async def die_deaf(journal: Journal, first: Any, last: Any) -> None:
    """A house in which `first` happens, and which dies when `last` was accepted and not acted upon."""
    store = Deaf(journal, delay_s=0)
    with trio.move_on_after(5):
        async with a_house(store=store, kinds=KINDS, grace_s=0.1) as house:
            await first(house)
            store.deaf = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(last, house)
                await trio.sleep(1)
                await MemoryStore(journal).open()
                nursery.cancel_scope.cancel()
            await trio.sleep_forever()


async def test_an_engine_spawned_without_a_start_is_not_started_by_a_restart(
    autojump_clock: MockClock, journal: Journal
) -> None:
    async def nothing(house: EmbeddedHouse) -> None:
        await trio.lowlevel.checkpoint()

    await die_deaf(journal, nothing, lambda house: spawn(house, "a", "probe", start=False))
    async with a_house(journal) as house:
        await house.supervisor.intake.write_and_wait(())
        assert (await house.get("a")).state == "stopped"
        assert house.supervisor.view("a").owed == {}


@pytest.mark.parametrize("on_busy, left", [("interrupt", ["second", "first"]), ("replace", ["first"])])
async def test_what_a_run_was_to_supersede_does_not_come_back_after_a_kill(
    autojump_clock: MockClock, journal: Journal, on_busy: str, left: list[str]
) -> None:
    async def busy(house: EmbeddedHouse) -> None:
        await spawn(house, "a", "probe")
        await house.submit("a", NewRun(input={"steps": 1000, "step_s": 1}))
        await house.submit("a", NewRun(input="second"))
        await trio.sleep(2.5)

    def supersede(house: EmbeddedHouse) -> Any:
        return house.submit("a", NewRun(input="first", on_busy=OnBusy(on_busy)))

    await die_deaf(journal, busy, supersede)
    async with a_house(journal) as house:
        await until(house, "a", "running")
        await trio.sleep(5)
        runs = (await house.runs(engine="a")).items
        assert {run.input if isinstance(run.input, str) else "long": run.status for run in runs} == {
            "long": "cancelled", "second": "completed" if "second" in left else "cancelled", "first": "completed",
        }  # fmt: skip
        done = [run for run in runs if run.status == "completed"]
        assert min(done, key=lambda run: run.finished_at or "").input == "first"


async def test_waiting_for_a_place_survives_a_restart_in_order(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await house.create_pool(NewPool(id="p", max_running=1))
        await spawn(house, "holder", "probe", pool="p")
        for name in ("a", "b", "c"):
            await spawn(house, name, "probe", pool="p", start=False)
        for name in ("c", "a", "b"):
            await house.start(name)
        assert (await house.get("c")).waiting_for == "place"
    async with a_house(journal) as house:
        await until(house, "holder", "running")
        order = []
        for _ in range(3):
            up = [i.id for i in (await house.list(pool="p", state="running")).items]
            order += up
            await house.stop(up[0])
            await until(house, up[0], "stopped")
            await trio.sleep(0.1)
        assert order == ["holder", "c", "a"]
        await until(house, "b", "running")
        owed = [view for view in house.supervisor.views.values() if view.owed]
        assert owed == []


async def test_a_draining_pool_goes_on_draining(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await house.create_pool(NewPool(id="p"))
        await spawn(house, "a", "probe", pool="p")
        run = await submit(house, "a", {"step_s": 10})
        await run_until(house, run, "running")
        await house.pool_command("p", PoolCommand(type="drain"))
    async with a_house(journal) as house:
        assert (await house.pool("p")).draining
        await run_until(house, run, "ended")
        await until(house, "a", "stopped")
        assert (await house.run(run)).status == "completed"


async def test_budgets_survive_a_restart(autojump_clock: MockClock, journal: Journal) -> None:
    class Spender(Engine):
        kind = "spender"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            ctx.usage(tokens=60)

    async with killed(journal, kinds=[Spender]) as house:
        await house.create_pool(NewPool(id="p"))
        await spawn(house, "a", "spender", pool="p")
        await house.submit("a", NewRun(input=None), wait_s=5)
        await house.dispose("a")
        await spawn(house, "b", "spender", pool="p")
        await house.submit("b", NewRun(input=None), wait_s=5)
        assert (await house.pool("p")).budget["tokens"] == 120
    async with a_house(journal, kinds=[Spender]) as house:
        assert (await house.pool("p")).budget["tokens"] == 120


async def test_a_key_still_replays_after_a_restart(autojump_clock: MockClock, journal: Journal) -> None:
    caller = Caller(principal="user:alice", key="k1")
    async with killed(journal) as house:
        await house.spawn(NewEngine(kind="probe", id="a"), caller)
        first = await house.pause("a", Caller(principal="user:alice", key="k2"))
    async with a_house(journal) as house:
        info, accepted = await house.spawn(NewEngine(kind="probe", id="a"), caller)
        assert (info.id, accepted.replayed) == ("a", True)
        again = await house.pause("a", Caller(principal="user:alice", key="k2"))
        assert (again.command_id, again.replayed) == (first.command_id, True)


async def test_a_respawned_id_is_the_new_engines_also_when_the_clock_was_set_back(
    autojump_clock: MockClock, journal: Journal
) -> None:
    async with a_house(journal) as house:
        await spawn(house, "a", "probe")
        await house.dispose("a")
    async with a_house(journal, wall=lambda: wall() - 86_400) as house:
        await spawn(house, "a", "probe")
        assert (await house.get("a")).engine_seq < 10
    async with a_house(journal) as house:
        await until(house, "a", "running")


async def test_dormant_engines_still_expire_after_a_restart(autojump_clock: MockClock, journal: Journal) -> None:
    async with killed(journal) as house:
        await house.create_pool(NewPool(id="p", expire_s=100))
        await spawn(house, "a", "probe", pool="p", idle_s=1.0)
        await until(house, "a", "dormant")
    async with a_house(journal) as house:
        await until(house, "a", "disposed")


async def test_an_approval_is_never_made_by_a_restart(autojump_clock: MockClock, journal: Journal) -> None:
    yes = {"id": "yes", "kind": "allow_once", "label": "Yes"}
    ask = {"kind": "approval", "options": [yes], "deadline_s": 10, "default": "yes"}
    async with killed(journal) as house:
        await spawn(house, "a", "probe")
        run = await submit(house, "a", {"ask_at": 0, "ask": ask})
        await run_until(house, run, "waiting")
    await trio.sleep(100)
    async with a_house(journal) as house:
        await run_until(house, run, "ended")
        assert ((await house.run(run)).error or {})["slug"] == "request-expired"


async def test_commands_after_disposed_in_the_same_batch_are_settled_by_recovery(
    autojump_clock: MockClock, journal: Journal
) -> None:
    """Killed between `engine.disposed` and the rejection of what came after it."""

    class Cut(MemoryStore):
        upto: int | None = None

        async def sync(self, batch: Any) -> None:
            await trio.sleep(0.01)
            if self.upto is not None:
                types_ = [row.type for write in batch for row in write.rows]
                if "command.rejected" in types_:
                    await MemoryStore(journal).open()  # somebody else owns the journal from here on

    store = Cut(journal)
    with pytest.raises(StoreUnavailable, match="taken"):
        async with a_house(store=store) as house:
            await spawn(house, "a", "probe", start=False)
            store.upto = 0
            async with trio.open_nursery() as nursery:
                for command in (house.pause, house.dispose, house.stop, house.resume):
                    nursery.start_soon(regardless, command, "a")
                    await trio.sleep(0.001)
    async with a_house(journal) as house:
        await house.supervisor.intake.write_and_wait(())
        assert house.supervisor.view("a").owed == {}
        rows = await journaled(house.supervisor.store)
        accepted = {row.command_id for row in rows if row.type == "command.accepted"}
        settled = [row.command_id for row in rows if row.type in ("command.completed", "command.rejected")]
        assert len(settled) == len(accepted)
        assert set(settled) == accepted
