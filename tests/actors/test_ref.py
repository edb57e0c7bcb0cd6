from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunInput, Undelivered
from actors.envelope import ReplySlot
from protocol.errors import EngineDisposed, InvalidState, MailboxFull, NotFound
from tests.actors.stage import OpenStage


class Echo(Engine):
    """Answers after `payload` seconds, when that is a number."""

    kind = "echo"

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        if name == "crash":
            raise ValueError("told to")
        if isinstance(payload, int):
            await trio.sleep(payload)
        return (name, payload)

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        await ctx.sleep(run.input)


# -- the slot ---
async def test_a_slot_gives_the_answer_that_was_set_before_or_after() -> None:
    slot = ReplySlot()
    assert slot.set(1)
    assert await slot.get() == 1
    late = ReplySlot()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late.get)
        await trio.testing.wait_all_tasks_blocked()
        assert late.set(2)


async def test_a_second_answer_is_refused_and_changes_nothing() -> None:
    slot = ReplySlot()
    assert [slot.set(1), slot.set(2), slot.fail(ValueError())] == [True, False, False]
    assert await slot.get() == 1


async def test_an_error_is_an_answer_that_raises() -> None:
    slot = ReplySlot()
    slot.fail(KeyError("x"))
    with pytest.raises(KeyError, match="x"):
        await slot.get()


async def test_an_answer_after_the_asker_was_cancelled_is_refused() -> None:
    slot = ReplySlot()
    with trio.move_on_after(0):
        await slot.get()
    assert slot.done
    assert not slot.set(1)


# -- ask and tell ---
async def test_an_ask_gets_what_on_signal_returns(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        assert await on.house.ref("e").ask("hello", ["x"]) == ("hello", ["x"])


async def test_volatile_messages_leave_no_row_and_count_in_the_conservation_law(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        before = await on.rows()
        for n in range(100):
            on.house.ref("e").tell("x", str(n))
        await on.house.ref("e").ask("last")
        assert await on.rows() == before
        mail = on.house.statistics().mailboxes["e"]
        assert (mail.accepted, mail.handled) == (101, 101)


async def test_messages_are_handled_in_the_order_they_were_sent(stage: OpenStage, autojump_clock: MockClock) -> None:
    seen: list[int] = []

    class Counter(Engine):
        kind = "counter"

        async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
            await trio.lowlevel.checkpoint()
            seen.append(payload)

    async with stage(Counter) as on:
        await on.spawn(Counter)
        for n in range(300):
            on.house.ref("e").tell("n", n)
        await on.house.ref("e").ask("n", 300)
        assert seen == list(range(301))


async def test_an_ask_that_is_not_answered_in_time_raises_timeout(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        with pytest.raises(TimeoutError, match="within 2 s"):
            await on.house.ref("e").ask("slow", 5, timeout_s=2)
        assert trio.current_time() == 2


async def test_a_late_answer_is_counted_and_harms_nobody(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        with trio.move_on_after(1):
            await on.house.ref("e").ask("slow", 5)
        with pytest.raises(TimeoutError):
            await on.house.ref("e").ask("slow", 5, timeout_s=2)
        await on.until(20)
        assert on.house.statistics().late_answers == 2
        assert await on.house.ref("e").ask("hello") == ("hello", None)
        assert (await on.house.get("e")).incarnation == 1


async def test_a_message_in_hand_at_a_crash_is_undelivered(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        with pytest.raises(Undelivered, match="crash to e: ValueError: told to"):
            await on.house.ref("e").ask("crash")


@pytest.mark.parametrize("end", ["stop", "restart", "dispose"])
async def test_messages_that_wait_are_undelivered_when_the_incarnation_ends(
    stage: OpenStage, autojump_clock: MockClock, end: str
) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        ref = on.house.ref("e")

        async def ask(seconds: int) -> None:
            with pytest.raises(Undelivered):
                await ref.ask("slow", seconds, timeout_s=1000)
            assert trio.current_time() <= 3

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 50)
            nursery.start_soon(ask, 5)
            await on.until(1)
            if end == "dispose":
                await on.house.dispose("e", force=True, grace_s=2)
            else:
                await (on.house.stop("e", grace_s=2) if end == "stop" else on.house.pause("e"))
                if end == "restart":
                    await on.house.restart("e")


async def test_messages_that_wait_when_the_house_closes_are_undelivered(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    outcome: list[type[BaseException]] = []

    async def ask(ref: Any, seconds: int) -> None:
        try:
            await ref.ask("slow", seconds, timeout_s=1000)
        except Undelivered as error:
            outcome.append(type(error))

    async with trio.open_nursery() as nursery:
        start_soon = nursery.start_soon  # who asks outlives the house
        async with stage(Echo) as on:
            await on.spawn(Echo)
            await on.pause()
            for seconds in (5, 50):
                start_soon(ask, on.house.ref("e"), seconds)
            await on.until(1)
    assert outcome == [Undelivered, Undelivered]


async def test_a_ref_stays_valid_across_restarts(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        ref = on.house.ref("e")
        await on.house.restart("e")
        await on.until(1)
        assert await ref.ask("hello") == ("hello", None)
        ref.tell("crash")
        await on.until(1.5)
        assert await on.state() == "backing_off"
        assert await ref.ask("again") == ("again", None)
        assert trio.current_time() == 2


async def test_a_ref_names_what_refuses_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        with pytest.raises(NotFound):
            on.house.ref("e")
        await on.spawn(Echo, mailbox_size=1)
        ref = on.house.ref("e")
        await on.house.stop("e")
        await on.until(1)
        with pytest.raises(InvalidState):
            ref.tell("x")
        await on.house.start("e")
        await on.pause()
        await on.until(2)
        ref.tell("fits")
        with pytest.raises(MailboxFull):
            ref.tell("full")
        await on.house.dispose("e", force=True)
        with pytest.raises(EngineDisposed):
            await ref.ask("x")


async def test_a_message_wakes_a_dormant_engine(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo, idle_s=5)
        await on.until(6)
        assert await on.state() == "dormant"
        assert await on.house.ref("e").ask("hello") == ("hello", None)
        await on.until(7)
        assert (await on.house.get("e")).incarnation == 2


async def test_a_message_waits_while_paused(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Echo) as on:
        await on.spawn(Echo)
        await on.pause()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert await on.house.ref("e").ask("hello") == ("hello", None)
                assert trio.current_time() == 10

            nursery.start_soon(ask)
            await on.until(10)
            await on.resume()


async def test_actors_can_ask_each_other(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Front(Engine):
        kind = "front"
        house: Any = None

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            return await ctx.wait(lambda: self.house.ref("back").ask("hello", 2))

    async with stage(Front, Echo) as on:
        Front.house = on.house
        await on.spawn(Echo, "back")
        await on.spawn(Front)
        run = await on.run()
        assert (run.result, run.elapsed_s) == (["hello", 2], 2)
