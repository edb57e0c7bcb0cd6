"""What a program may announce beside its runs, on a virtual clock: a puppet stands in for the program."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
import trio
import trio.testing

from actors import Context, Engine, RunContext, RunInput
from actors.engines.dialogue import Dialogue
from actors.engines.program import ProgramFailed
from protocol.bodies import NewEngine, NewRun
from protocol.commands import Stop
from protocol.specs import OnInterrupt, PauseMode, Policy, Restart
from supervisor import EmbeddedHouse, MemoryStore, open_supervisor
from supervisor.store.memory import Journal

Clock = trio.testing.MockClock
NEVER = Restart(policy=Policy.TEMPORARY)
HELLO = {"protocol": 1}


class Puppet:
    """A program that says what a test has it say. `heard`: what it was told."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.ended, self.told, self.blame = trio.Event(), trio.Event(), ""

    def say(self, line: bytes) -> None:
        self.heard.append(json.loads(line))
        self.told.set()
        self.told = trio.Event()

    def give_up(self, blame: str) -> None:
        self.blame = blame

    def sentence(self, what: str) -> str:
        return f"The puppet {what}."


class Talker(Engine):
    kind = "talker"
    pause_modes = (PauseMode.SOFT, PauseMode.INTERRUPT)
    checkpoints = True
    latest: ClassVar["Talker"]
    hello: ClassVar[dict[str, Any]] = HELLO

    async def on_start(self, ctx: Context) -> None:
        Talker.latest = self
        self.puppet = Puppet()
        self.dialogue = Dialogue(ctx, "talker")
        self.dialogue.program = self.puppet  # type: ignore[assignment]  # as much of one as is asked
        ctx.nursery.start_soon(self.say, "hello")
        await self.dialogue.begin()
        ctx.nursery.start_soon(self._live)

    async def _live(self) -> None:
        await self.puppet.ended.wait()
        raise ProgramFailed(self.puppet.blame)

    async def say(self, type: str, **members: Any) -> None:
        members = self.hello if type == "hello" else members
        await self.dialogue.hear(json.dumps({"type": type, **members}).encode())

    async def heard(self, type: str) -> dict[str, Any]:
        while True:
            for message in self.puppet.heard:
                if message["type"] == type:
                    self.puppet.heard.remove(message)
                    return message
            await self.puppet.told.wait()

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        return await self.dialogue.run(ctx, run)

    async def on_pause(self, ctx: Context) -> None:
        await self.dialogue.quiesced()

    async def on_stop(self, ctx: Context) -> None:
        self.dialogue.forget()
        self.dialogue.close()


@pytest.fixture
async def house() -> AsyncIterator[EmbeddedHouse]:
    async with open_supervisor(threads=False, kinds=[Talker], grace_s=1, wall=wall) as opened:
        yield opened


def wall() -> float:
    """Time of day goes with the virtual clock."""
    return 1_000_000_000 + trio.current_time()


async def spawned(house: EmbeddedHouse, hello: dict[str, Any], **spec: Any) -> Talker:
    Talker.hello = {**HELLO, **hello}
    await house.spawn(NewEngine(kind="talker", id="talker", **{"restart": NEVER, **spec}))
    await until(house, "running")
    return Talker.latest


async def until(house: EmbeddedHouse, state: str) -> None:
    await house.supervisor.watch(house.supervisor.ids["talker"], lambda view: view.state == state or None)


async def state(house: EmbeddedHouse) -> str:
    await trio.testing.wait_all_tasks_blocked()
    return str((await house.get("talker")).state)


async def started(house: EmbeddedHouse, talker: Talker) -> str:
    """A run that the program has."""
    run, _ = await house.submit("talker", NewRun(input=1))
    assert (await talker.heard("run"))["id"] == run.id
    return run.id


async def ended(house: EmbeddedHouse, run: str) -> Any:
    await house.supervisor.watch(house.supervisor.ids["talker"], lambda view: not view.runs or None)
    return await house.run(run)


# -- pause -------------------------------------------------------------------------------------------------------------
async def test_a_run_stands_still_where_its_program_says_so(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    run = await started(house, talker)
    await house.pause("talker")
    number = (await talker.heard("pause"))["number"]
    await talker.say("output", id=run, text="one step more")
    assert await state(house) == "pausing"
    await talker.say("paused", number=number)
    assert await state(house) == "paused"
    await house.resume("talker")
    assert (await talker.heard("resume"))["number"] == number
    await talker.say("result", id=run, result="done")
    info = await ended(house, run)
    assert (info.result, info.attempts) == ("done", 1)


async def test_a_program_that_did_not_declare_it_is_not_asked(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    run = await started(house, talker)
    await house.pause("talker")
    assert await state(house) == "pausing"
    await talker.say("result", id=run)
    assert await state(house) == "paused"
    await house.resume("talker")
    assert await state(house) == "running"
    assert [message["type"] for message in talker.puppet.heard] == ["hello"]


async def test_a_run_that_ends_instead_is_no_answer(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    run = await started(house, talker)
    await house.pause("talker")
    await talker.say("result", id=run)
    assert (await ended(house, run)).status == "completed"
    assert await state(house) == "pausing"
    await talker.say("paused", number=1)
    assert await state(house) == "paused"


async def test_an_answer_to_a_pause_that_is_over_does_not_count(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    await started(house, talker)
    await house.pause("talker")
    await talker.heard("pause")
    await house.resume("talker")
    await talker.heard("resume")
    await house.pause("talker")
    await talker.heard("pause")
    await talker.say("paused", number=1)
    assert await state(house) == "pausing"
    await talker.say("paused", number=2)
    assert await state(house) == "paused"


async def test_past_its_time_a_pause_is_slow_and_names_the_step(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True}, pause_timeout_s=30)
    await house.pause("talker")
    await talker.heard("pause")
    assert (await house.get("talker")).pause_slow is None
    await trio.sleep(31)
    info = await house.get("talker")
    assert (info.state, info.pause_slow) == ("pausing", "on_pause")
    await house.resume("talker")
    assert await state(house) == "running"


async def test_a_program_may_pause_while_a_person_is_asked(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    run = await started(house, talker)
    await talker.say("ask", id=run, ask="a", title="Well?")
    await house.pause("talker")
    await talker.say("paused", number=(await talker.heard("pause"))["number"])
    assert await state(house) == "paused"
    await house.resume("talker")
    await talker.say("result", id=run, result=1)
    assert await state(house) == "running"


async def test_a_run_is_cancelled_while_its_program_stands_still(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    run = await started(house, talker)
    await house.pause("talker")
    await talker.say("paused", number=(await talker.heard("pause"))["number"])
    await until(house, "paused")
    await house.cancel(run)
    assert (await talker.heard("cancel"))["id"] == run
    await talker.say("error", id=run)
    assert (await ended(house, run)).status == "cancelled"
    assert await state(house) == "paused"
    assert talker.puppet.blame == ""


async def test_a_stop_does_not_wait_for_a_pause(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"pause": True})
    await house.pause("talker")
    await talker.heard("pause")
    await house.command("talker", Stop(), wait_s=5)
    assert await state(house) == "stopped"
    assert "resume" not in [message["type"] for message in talker.puppet.heard]


# -- signs of life ---------------------------------------------------------------------------------------------------
async def test_silence_for_twice_as_long_as_promised_is_the_end(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {"heartbeat_s": 10})
    for sign in ("heartbeat", "log", "new"):
        await trio.sleep(19)
        await talker.say(sign, text="I live")
    assert talker.puppet.blame == ""
    await trio.sleep(20.1)
    assert talker.puppet.blame == "said nothing for 20 s, though it had promised a sign of life every 10 s"


async def test_who_promised_nothing_may_be_silent(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    await trio.sleep(3600)
    assert talker.puppet.blame == ""


async def test_held_it_owes_no_sign_of_life_and_then_has_its_time_anew(
    autojump_clock: Clock, house: EmbeddedHouse
) -> None:
    talker = await spawned(house, {"heartbeat_s": 10})
    await trio.sleep(15)
    await house.pause("talker")
    await until(house, "paused")
    await trio.sleep(1000)
    await house.resume("talker")
    await trio.sleep(19)
    assert talker.puppet.blame == ""
    await trio.sleep(1.1)
    assert talker.puppet.blame.startswith("said nothing for 20 s")


async def test_a_house_that_does_not_listen_holds_no_silence_against_it(
    autojump_clock: Clock, house: EmbeddedHouse
) -> None:
    """A question is with people, and the messages behind it wait; the program is not read any further."""
    talker = await spawned(house, {"heartbeat_s": 10})
    run = await started(house, talker)
    await talker.say("ask", id=run, ask="a", title="Well?")
    async with trio.open_nursery() as nursery:

        async def much() -> None:
            for _ in range(100):
                await talker.say("output", id=run, text="x")

        nursery.start_soon(much)
        await trio.sleep(1000)
        assert talker.puppet.blame == ""
        nursery.cancel_scope.cancel()


# -- readiness, snapshots, what was used -----------------------------------------------------------------------------
async def test_who_is_not_ready_is_waited_for(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    Talker.hello = {**HELLO, "ready": False}
    await house.spawn(NewEngine(kind="talker", id="talker", restart=NEVER))
    assert await state(house) == "starting"
    await Talker.latest.say("ready")
    assert await state(house) == "running"


async def test_the_last_snapshot_is_public_state_and_is_told_to_the_next_incarnation(
    autojump_clock: Clock, house: EmbeddedHouse
) -> None:
    talker = await spawned(house, {})
    assert "snapshot" not in (await talker.heard("hello"))
    await talker.say("snapshot", value={"at": 1})
    await talker.say("snapshot", value={"at": 2})
    await trio.testing.wait_all_tasks_blocked()
    assert (await house.slice("talker", "snapshot")).value == {"at": 2}
    await house.restart("talker")
    await until(house, "stopping")
    await until(house, "running")
    assert (await Talker.latest.heard("hello"))["snapshot"] == {"at": 2}


async def test_a_snapshot_of_nothing_forgets_the_last(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    await talker.say("snapshot", value=5)
    await talker.say("snapshot", value=None)
    await house.restart("talker")
    await until(house, "stopping")
    await until(house, "running")
    assert "snapshot" not in (await Talker.latest.heard("hello"))


async def test_a_snapshot_that_is_too_large_is_the_end(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    await talker.say("snapshot", value="x" * (256 << 10))
    assert re.search(r"a `snapshot` has \d+ bytes; the limit is 262144", talker.puppet.blame)


@pytest.mark.parametrize("resume", [True, False])
async def test_a_run_that_was_in_hand_goes_on_in_a_program_that_can(
    autojump_clock: Clock, house: EmbeddedHouse, resume: bool
) -> None:
    talker = await spawned(house, {"resume": resume}, on_interrupt=OnInterrupt.RESUME, restart=Restart())
    run = await started(house, talker)
    await talker.say("snapshot", id=run, value={"done": 3})
    await trio.testing.wait_all_tasks_blocked()
    talker.puppet.ended.set()
    await until(house, "backing_off")
    await until(house, "running")
    if resume:
        again = await Talker.latest.heard("run")
        assert (again["id"], again["attempt"], again["resumed"], again["snapshot"]) == (run, 2, True, {"done": 3})
        await Talker.latest.say("result", id=run, result=10)
        assert (await ended(house, run)).result == 10
    else:
        info = await ended(house, run)
        assert (info.status, info.error["slug"]) == ("failed", "interrupted")
        assert "does not say that it can resume" in info.error["detail"]


async def test_what_a_run_used_is_added_up(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    run = await started(house, talker)
    await talker.say("usage", id=run, amounts={"tokens": 10})
    await talker.say("usage", id=run, amounts={"tokens": 5, "cost_usd": 0.25})
    await talker.say("result", id=run)
    assert (await ended(house, run)).usage == {"tokens": 15, "cost_usd": 0.25}


@pytest.mark.parametrize(
    "message, says",
    [
        ({"type": "usage", "id": "r", "amounts": {"tokens": -1}}, "`usage` is wrong: amounts.tokens"),
        ({"type": "usage", "amounts": {}}, "`usage` is wrong: id"),
        ({"type": "paused"}, "`paused` is wrong: number"),
        ({"type": "hello", "protocol": 1, "heartbeat_s": 0}, "`hello` is wrong: heartbeat_s"),
        ({"type": "hello", "protocol": 1, "pause": "yes"}, "`hello` is wrong: pause"),
        ({"type": "log", "text": "x", "level": "loud"}, "`log` is wrong: level"),
    ],
)
async def test_a_message_that_is_wrong_is_named(
    autojump_clock: Clock, house: EmbeddedHouse, message: dict[str, Any], says: str
) -> None:
    talker = await spawned(house, {})
    await talker.dialogue.hear(json.dumps(message).encode())
    assert says in talker.puppet.blame


async def test_a_snapshot_outlives_the_house(autojump_clock: Clock) -> None:
    journal = Journal()
    async with open_supervisor(store=MemoryStore(journal), threads=False, kinds=[Talker], grace_s=1) as house:
        talker = await spawned(house, {"resume": True}, on_interrupt=OnInterrupt.RESUME)
        run = await started(house, talker)
        await talker.say("snapshot", id=run, value={"done": 3})
    async with open_supervisor(store=MemoryStore(journal), threads=False, kinds=[Talker], grace_s=1) as house:
        await until(house, "running")
        assert (await Talker.latest.heard("hello"))["snapshot"] == {"done": 3}
        assert (await Talker.latest.heard("run"))["snapshot"] == {"done": 3}


async def test_usage_may_have_any_name(autojump_clock: Clock, house: EmbeddedHouse) -> None:
    talker = await spawned(house, {})
    run = await started(house, talker)
    await talker.say("usage", id=run, amounts={"self": 1, "tokens": 2})
    await talker.say("result", id=run)
    info = await ended(house, run)
    assert (info.status, info.usage) == ("completed", {"self": 1, "tokens": 2})
