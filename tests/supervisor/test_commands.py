"""Commands: their order, their two-stage legality, their keys, and what waiting for their effect means."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.bodies import NewPool
from protocol.commands import Dispose, Pause, Restart, Resume, Start, Stop, Submit
from protocol.errors import (
    EngineDisposed,
    EnginehouseError,
    IdempotencyMismatch,
    InvalidState,
    MailboxFull,
    Overloaded,
    QuotaExceeded,
    RunConflict,
    ValidationFailed,
)
from protocol.events import SETTLING, Row
from protocol.runs import OnBusy
from protocol.specs import PauseMode, Quotas
from supervisor import Caller, EmbeddedHouse, NewEngine, NewRun, intake
from supervisor.audit import Trail
from supervisor.store.memory import Journal
from tests.supervisor.houses import (
    ALICE,
    BOB,
    KINDS,
    SlowStore,
    a_house,
    journaled,
    run_until,
    spawn,
    submit,
    types,
    until,
)


def keyed(key: str, principal: str = "user:alice") -> Caller:
    return Caller(principal=principal, key=key)


async def together(house: EmbeddedHouse, *bodies: tuple[str, Any]) -> list[Any]:
    """Send commands in one batch, in this order; the answers."""
    answers: list[Any] = [None] * len(bodies)

    async def one(n: int, engine: str, body: Any) -> None:
        try:
            answers[n], _ = await house.command(engine, body, ALICE)
        except EnginehouseError as error:
            answers[n] = error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.supervisor.intake.write_and_wait, ())
        for n, (engine, body) in enumerate(bodies):
            await trio.sleep(0.001)
            nursery.start_soon(one, n, engine, body)
    return answers


async def test_commands_take_effect_in_the_order_of_their_acceptance(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        answers = await together(house, ("a", Pause()), ("a", Resume()), ("a", Pause()), ("a", Stop()))
        assert [a.seq for a in answers] == sorted(a.seq for a in answers)
        await until(house, "a", "stopped")
        rows = await journaled(house.supervisor.store, lambda row: row.type.startswith("engine."))
        assert types(rows)[3:] == [
            "engine.held", "engine.pausing", "engine.paused", "engine.held", "engine.resumed", "engine.held",
            "engine.pausing", "engine.paused", "engine.stopping", "engine.stopped",
        ]  # fmt: skip


async def test_what_an_earlier_command_of_the_batch_made_illegal_is_rejected_and_settled(
    autojump_clock: MockClock,
) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe", idle_s=1.0)
        await until(house, "a", "dormant")
        paused, gone, late, run = await together(
            house, ("a", Pause()), ("a", Dispose()), ("a", Start()), ("a", Submit(input="x"))
        )
        assert (paused.state, gone.state) == ("accepted", "accepted")
        assert isinstance(late, EngineDisposed)
        assert isinstance(run, EngineDisposed)
        await until(house, "a", "disposed")
        rows = await journaled(house.supervisor.store)
        accepted = [row.command_id for row in rows if row.type == "command.accepted"]
        settled = [row.command_id for row in rows if row.type in ("command.completed", "command.rejected")]
        assert sorted(map(str, accepted)) == sorted(map(str, settled))
        (cancelled,) = [row for row in rows if row.type == "run.cancelled"]
        assert (await house.run(cancelled.run_id or "")).status == "cancelled"
        assert house.supervisor.view("a").owed == {}


async def test_the_record_of_a_rejected_command_is_its_refusal(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe", start=False)
        again = keyed("k")

        async def rejected() -> None:
            with pytest.raises(EngineDisposed):
                await house.command("a", Start(), again)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.supervisor.intake.write_and_wait, ())
            await trio.sleep(0.001)
            nursery.start_soon(lambda: house.dispose("a"))
            await trio.sleep(0.001)
            nursery.start_soon(rejected)
        with pytest.raises(EngineDisposed):  # the repeat gets the first answer
            await house.command("a", Start(), again)
        (row,) = await journaled(house.supervisor.store, lambda row: row.type == "command.rejected")
        record = await house.get_command(row.command_id or "")
        assert (record.state, (record.problem or {})["slug"]) == ("rejected", "engine-disposed")


async def test_a_repeat_gets_the_first_answer_and_no_second_effect(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        first, accepted = await house.submit("a", NewRun(input="x"), keyed("k"))
        again, replayed = await house.submit("a", NewRun(input="x"), keyed("k"))
        assert (again.id, replayed.command_id, replayed.replayed) == (first.id, accepted.command_id, True)
        assert not accepted.replayed
        other, _ = await house.submit("a", NewRun(input="x"), keyed("k", "user:bob"))
        assert other.id != first.id
        with pytest.raises(IdempotencyMismatch):
            await house.submit("a", NewRun(input="y"), keyed("k"))


async def test_repeats_at_the_same_time_are_one_command(autojump_clock: MockClock) -> None:
    seen = []
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe")

        async def one() -> None:
            run, accepted = await house.submit("a", NewRun(input="x"), keyed("k"))
            seen.append((run.id, accepted.replayed))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert len({run for run, _ in seen}) == 1
        assert sorted(replayed for _, replayed in seen) == [False, True, True, True, True]
        assert house.supervisor.cell("a").mailbox.reserved == 0


async def test_a_refusal_leaves_the_key_unused(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe", start=False)
        await house.supervisor.intake.write_and_wait(())
        at = house.supervisor.folded
        with pytest.raises(InvalidState) as refused:
            await house.submit("a", NewRun(input="x"), keyed("k"))
        assert refused.value.extra["state"] == "stopped"
        assert "start" in refused.value.extra["allowed"]  # type: ignore[operator]  # a list of names
        assert house.supervisor.folded == at
        await house.start("a")
        run, accepted = await house.submit("a", NewRun(input="x"), keyed("k"))
        assert not accepted.replayed
        assert run.status == "queued"


@pytest.mark.parametrize("end", ["stopped", "disposed"])
async def test_a_repeat_in_a_state_that_refuses_gets_the_first_answer(autojump_clock: MockClock, end: str) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        first, _ = await house.submit("a", NewRun(input="x"), keyed("k"), wait_s=5)
        await (house.stop("a") if end == "stopped" else house.dispose("a"))
        await until(house, "a", end)
        again, accepted = await house.submit("a", NewRun(input="x"), keyed("k"))
        assert (again.id, again.status, accepted.replayed) == (first.id, "completed", True)
        with pytest.raises((InvalidState, EngineDisposed)):
            await house.submit("a", NewRun(input="x"), keyed("other"))


# -- waiting for the effect --------------------------------------------------------------------------------------------
async def test_waiting_for_a_pause_means_quiesced(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a", "shielding"), 7)
        await run_until(house, run, "running")
        _, done = await house.command("a", Pause(), ALICE, wait_s=3)
        assert done is None
        assert (await house.get("a")).state == "pausing"
        began = trio.current_time()
        _, done = await house.command("a", Pause(), ALICE, wait_s=30)
        assert done is not None
        assert done.changed is False
        assert trio.current_time() - began == pytest.approx(4)
        assert (await house.get("a")).state == "paused"


async def test_a_later_resume_makes_the_pause_unreachable(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        run = await submit(house, await spawn(house, "a", "shielding"), 20)
        await run_until(house, run, "running")
        async with trio.open_nursery() as nursery:

            async def pause() -> None:
                with pytest.raises(InvalidState, match="not to be reached any more"):
                    await house.command("a", Pause(), ALICE, wait_s=30)
                assert trio.current_time() < 5

            nursery.start_soon(pause)
            await trio.sleep(2)
            await house.resume("a", BOB)  # not the holder: changes nothing
            await trio.sleep(1)
            await house.resume("a", ALICE)


async def test_a_pause_that_was_reached_and_lifted_at_once_was_reached(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        answers: list[Any] = []

        async def pause() -> None:
            answers.append(await house.command("a", Pause(), ALICE, wait_s=30))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.supervisor.intake.write_and_wait, ())
            await trio.sleep(0.001)
            nursery.start_soon(pause)
            await trio.sleep(0.001)
            nursery.start_soon(lambda: house.resume("a", ALICE))
        assert answers[0][1].changed is True


async def test_waiting_for_start_stop_restart_and_dispose(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe", start=False)

        async def state_after(body: Any) -> tuple[str, int]:
            _, done = await house.command("a", body, ALICE, wait_s=30)
            assert done is not None
            assert done.state == "completed"
            view = house.supervisor.view("a")
            return view.state.value, view.incarnation

        assert await state_after(Start()) == ("running", 1)
        assert await state_after(Restart()) == ("running", 2)
        assert await state_after(Stop()) == ("stopped", 2)
        assert await state_after(Start()) == ("running", 3)
        assert await state_after(Dispose()) == ("disposed", 3)


async def test_waiting_for_a_run_gives_its_end_also_when_it_failed(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        run, _ = await house.submit("a", NewRun(input={"fail_at": 1}), wait_s=5)
        assert (run.status, (run.error or {})["slug"]) == ("failed", "probe-failed")
        run, _ = await house.submit("a", NewRun(input={"step_s": 10}), wait_s=5)
        assert run.status == "running"


async def test_a_start_that_waits_for_a_place_and_is_stopped_was_unreachable(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", max_running=1))
        await spawn(house, "a", "probe", pool="p")
        await spawn(house, "b", "probe", pool="p", start=False)
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                with pytest.raises(InvalidState, match="not to be reached any more"):
                    await house.command("b", Start(), ALICE, wait_s=60)

            nursery.start_soon(start)
            await trio.sleep(1)
            assert (await house.get("b")).waiting_for == "place"
            await house.stop("b")
        assert (await house.get("b")).waiting_for is None


# -- vanished clients --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.004, 0.02])
async def test_a_client_that_vanishes_leaves_no_row_or_a_whole_row(autojump_clock: MockClock, after_s: float) -> None:
    async with a_house(store=SlowStore(delay_s=0.005), kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        before = house.supervisor.folded
        with trio.move_on_after(after_s):
            await house.submit("a", NewRun(input={}), keyed("k"), wait_s=30)
        await trio.sleep(1)
        assert house.supervisor.cell("a").mailbox.reserved == 0
        rows = await house.supervisor.store.read(after=before)
        assert types(rows, "command") in (["command.accepted", "command.completed"], [])
        assert house.statistics().unbalanced == ()
        _, accepted = await house.submit("a", NewRun(input={}), keyed("k"))
        assert accepted.replayed is bool(rows)


# -- limits ------------------------------------------------------------------------------------------------------------
async def test_a_full_mailbox_refuses_work_and_never_control(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe", mailbox_size=3)
        await house.pause("a", ALICE, wait_s=5)
        for _ in range(3):
            await submit(house, "a", {})
        at = house.supervisor.folded
        with pytest.raises(MailboxFull) as full:
            await submit(house, "a", {})
        assert full.value.extra == {"retry_after_s": 1}
        assert house.supervisor.folded == at
        await house.pause("a", BOB)
        await house.resume("a", BOB)
        await house.resume("a", ALICE)
        await trio.sleep(1)
        await submit(house, "a", {})


async def test_reservations_never_leak(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore(), kinds=KINDS) as house:
        await spawn(house, "a", "probe", mailbox_size=2)
        await house.pause("a", ALICE, wait_s=5)
        answers: list[str] = []

        async def one(key: str | None) -> None:
            try:
                await house.submit("a", NewRun(input={}), Caller(principal="user:alice", key=key))
                answers.append("ok")
            except MailboxFull:
                answers.append("full")

        async with trio.open_nursery() as nursery:
            for key in ("k", "k", "k", None, None):
                nursery.start_soon(one, key)
        assert house.supervisor.cell("a").mailbox.reserved == 0
        await house.resume("a", ALICE)
        await trio.sleep(1)
        for _ in range(2):
            await submit(house, "a", {"step_s": 1})
        assert "full" in answers


async def test_too_much_waiting_for_the_disk_turns_work_away_and_no_control(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BACKLOG_BYTES", 1000)
    async with a_house(store=SlowStore(delay_s=5), kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: house.submit("a", NewRun(input="x" * 2000)))
            await trio.sleep(0.1)
            with pytest.raises(Overloaded):
                await house.submit("a", NewRun(input="y"))
            await house.pause("a", ALICE)


async def test_legality_is_answered_before_capacity(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", quotas=Quotas(runs_per_minute=1)))
        await spawn(house, "a", "probe", pool="p")
        await submit(house, "a", {})
        with pytest.raises(QuotaExceeded):
            await submit(house, "a", {})
        await house.stop("a")
        await until(house, "a", "stopped")
        with pytest.raises(InvalidState):
            await submit(house, "a", {})


async def test_a_mode_that_the_kind_cannot_do_is_refused(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        with pytest.raises(ValidationFailed):
            await house.pause("a", ALICE, mode=PauseMode.FREEZE)


async def test_the_policies_for_a_busy_engine(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await spawn(house, "a", "probe")
        first = await submit(house, "a", {"step_s": 60})
        await run_until(house, first, "running")
        queued = await submit(house, "a", {})
        with pytest.raises(RunConflict) as conflict:
            await submit(house, "a", {}, on_busy=OnBusy.REJECT)
        assert conflict.value.extra["active_run"] == first
        urgent = await submit(house, "a", {"step_s": 5}, on_busy=OnBusy.INTERRUPT)
        await run_until(house, urgent, "running")
        assert (await house.run(first)).reason == "superseded"
        assert (await house.run(queued)).status == "queued"
        only = await submit(house, "a", {}, on_busy=OnBusy.REPLACE)
        await run_until(house, only, "ended")
        assert [(await house.run(r)).status for r in (urgent, queued, only)] == ["cancelled", "cancelled", "completed"]


async def test_everything_accepted_is_settled_or_queued(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal, kinds=KINDS) as house:
        await house.spawn(NewEngine(kind="probe", id="a", mailbox_size=5), ALICE)
        for n in range(20):
            body = [Pause(), Submit(input={}), Resume(), Submit(input={"crash_at": 1}), Stop(), Start()][n % 6]
            with trio.CancelScope():
                try:
                    await house.command("a", body, ALICE)
                except EnginehouseError:
                    continue
        await trio.sleep(0.1)
        rows = await journaled(house.supervisor.store)
        accepted = {row.command_id for row in rows if row.type == "command.accepted"}
        settled = {row.command_id for row in rows if row.type in SETTLING}
        assert accepted - settled == set(house.supervisor.view("a").owed)
        assert house.statistics().unbalanced == ()


async def test_a_replay_is_answered_once_its_own_audit_row_is_durable(autojump_clock: MockClock) -> None:
    store = SlowStore(delay_s=0.01)
    async with a_house(store=store, kinds=KINDS) as house:
        await spawn(house, "a")
        for n in range(2):
            trail = Trail("user:alice", request_id=f"r{n}")
            await house.submit("a", NewRun(input="1"), Caller(principal="user:alice", key="k", trail=trail))
            durable = [Row.from_wire(kept.wire, kept.uid) for kept in store.journal.rows]
            outcomes = [row.data["outcome"] for row in durable if row.type.startswith("audit.")]
            assert outcomes == ["accepted", "replayed"][: n + 1]
