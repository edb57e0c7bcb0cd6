"""Approvals: each is of one exact action, by somebody who may, for one use, in its time; in doubt there is none."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import rfc8785
import trio
import trio.testing
from trio.testing import MockClock

from actors.engine import Engine, RunInput
from actors.question import Question
from protocol.authority import Authority, Scope
from protocol.bodies import NewPool, NewRun, PatchPool, ReplyBody
from protocol.commands import Answer, Approve, Reject, Signal
from protocol.errors import (
    AlreadyDecided,
    ApprovalStale,
    InsufficientScope,
    RequestClosed,
    StoreUnavailable,
    ValidationFailed,
)
from protocol.events import Row
from protocol.requests import RequestKind
from protocol.specs import OnInterrupt
from protocol.times import epoch_ms
from protocol.wire import RequestInfo
from supervisor import Caller, EmbeddedHouse
from supervisor.store.memory import Journal
from tests.supervisor.houses import (
    ALICE,
    BOB,
    EPOCH,
    BreakingStore,
    SlowStore,
    a_house,
    journaled,
    killed,
    run_until,
    spawn,
    submit,
)

YES, NO = ReplyBody(option="approve"), ReplyBody(option="reject")


class Deployer(Engine):
    """Asks for approval of what its input says, attempt by attempt, and deploys it."""

    kind = "deployer"
    on_interrupt = OnInterrupt.RETRY

    async def on_run(self, ctx: Any, run: RunInput) -> Any:
        actions = run.input["actions"]
        action = actions[min(run.attempt, len(actions)) - 1]
        more = {name: value for name, value in run.input.items() if name != "actions"}
        decided = await ctx.ask_human("Deploy?", kind=RequestKind.APPROVAL, action=action, **more)
        if decided.option == "approve":
            await ctx.emit("deployer.deployed", {"action": action})
        return decided.option


class Clock:
    """Wall time that can be set."""

    def __init__(self) -> None:
        self.off_s = 0.0
        self.broken = False

    def __call__(self) -> float:
        return float("nan") if self.broken else EPOCH + trio.current_time() + self.off_s


async def deploying(
    house: EmbeddedHouse, *actions: Any, engine: str = "a", pool: str = "default", caller: Caller = ALICE, **ask: Any
) -> str:
    """A run that waits for its approval."""
    if engine not in house.supervisor.ids:
        await spawn(house, engine, "deployer", pool=pool)
    run = await submit_as(house, engine, {"actions": list(actions), **ask}, caller)
    await run_until(house, run, "waiting")
    return run


async def submit_as(house: EmbeddedHouse, engine: str, input: Any, caller: Caller) -> str:
    run, _ = await house.submit(engine, NewRun(input=input), caller)
    return run.id


async def pending(house: EmbeddedHouse) -> RequestInfo:
    (request,) = (await house.requests()).items
    return request


async def result(house: EmbeddedHouse, run: str) -> Any:
    await run_until(house, run, "ended")
    found = await house.run(run)
    return found.result if found.status == "completed" else (found.error or {}).get("slug", found.status)


async def deployed(house: EmbeddedHouse) -> list[Any]:
    return [row.data["action"] for row in await journaled(house.supervisor.store, typed("deployer.deployed"))]


def typed(*types: str) -> Callable[[Row], bool]:
    return lambda row: row.type in types


async def story(house: EmbeddedHouse) -> list[str]:
    return [
        row.type.partition(".")[2] + (f" {row.data['reason']}" if "reason" in row.data else "")
        for row in await journaled(house.supervisor.store, lambda row: row.type.startswith("request."))
    ]


# -- what is approved --------------------------------------------------------------------------------------------------
async def test_the_digest_can_be_recomputed_from_what_is_shown(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, {"to": "production", "weight": 1.0, "é": [1, None]}, detail="now")
        shown = await pending(house)
        said = {
            "domain": "enginehouse/request/1", "kind": shown.kind, "title": shown.title, "detail": shown.detail,
            "options": shown.options, "schema": shown.schema, "action": shown.action, "uid": shown.uid,
            "run_id": shown.run_id, "nonce": shown.nonce,
        }  # fmt: skip
        assert shown.digest == hashlib.sha256(rfc8785.dumps(said)).hexdigest()
        assert (shown.action, shown.run_id) == ({"to": "production", "weight": 1.0, "é": [1, None]}, run)


async def test_the_same_question_asked_again_is_another_digest(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        first_run = await deploying(house, "v1")
        first = await pending(house)
        await house.reply(first.id, YES, BOB)
        await result(house, first_run)
        await deploying(house, "v1")
        second = await pending(house)
        assert (first.action_digest, first.title) == (second.action_digest, second.title)
        assert first.nonce != second.nonce
        assert first.digest != second.digest
        with pytest.raises(ApprovalStale):
            await house.reply(second.id, ReplyBody(option="approve", digest=first.digest), BOB)
        with pytest.raises(ApprovalStale):
            await house.command("a", Approve(digest=first.digest), BOB)
        assert (await pending(house)).id == second.id
        await house.command("a", Approve(digest=second.digest), BOB)


async def test_an_action_that_is_too_large_is_not_asked_for(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await spawn(house, "a", "deployer")
        run = await submit(house, "a", {"actions": ["x" * (1 << 16)]})
        await run_until(house, run, "ended")
        assert await story(house) == []


@pytest.mark.parametrize(
    "ask", [{"valid_s": 0}, {"valid_s": -1}, {"escalate_s": [2, 1]}, {"escalate_s": [0]}, {"escalate_s": [1] * 2},
            {"escalate_s": [1, 2, 3, 4, 5, 6]}]
)  # fmt: skip
async def test_what_cannot_be_meant_is_not_asked(autojump_clock: MockClock, ask: dict[str, Any]) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await spawn(house, "a", "deployer")
        run = await submit(house, "a", {"actions": [1], **ask})
        await run_until(house, run, "ended")
        assert await story(house) == []


async def test_an_answer_has_to_fit_the_schema_of_its_question(autojump_clock: MockClock) -> None:
    class Former(Engine):
        kind = "former"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            return (await ctx.ask_human("How many?", schema=run.input)).answer

    async with a_house(kinds=[Former]) as house:
        await spawn(house, "a", "former")
        run = await submit(house, "a", {"type": "integer", "minimum": 1})
        await run_until(house, run, "waiting")
        request = await pending(house)
        for wrong in ("3", 0, None, True):
            with pytest.raises(ValidationFailed):
                await house.reply(request.id, ReplyBody(answer=wrong), BOB)
            with pytest.raises(ValidationFailed):
                await house.command("a", Answer(request_id=request.id, answer=wrong), BOB)
        await house.reply(request.id, ReplyBody(answer=3), BOB)
        assert await result(house, run) == 3
        for schema in ({"type": "count"}, {"enum": ["x" * (1 << 16)]}):
            run = await submit(house, "a", schema)
            await run_until(house, run, "ended")
            assert (await house.run(run)).status == "failed"


# -- how long it holds -------------------------------------------------------------------------------------------------
async def test_an_approval_that_was_not_used_in_time_is_void_and_asked_for_again(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", valid_s=100)
        await house.pause("a", ALICE, wait_s=5)
        first = await pending(house)
        decided = await house.reply(first.id, YES, BOB)
        assert decided.decision is not None
        assert decided.decision["expires_at"] > decided.decision["at"]
        await trio.sleep(101)
        assert (await house.request(first.id)).voided == "expired"
        await house.resume("a", ALICE)
        await run_until(house, run, "waiting")
        assert await deployed(house) == []
        second = await pending(house)
        assert second.digest != first.digest
        with pytest.raises(AlreadyDecided):
            await house.reply(first.id, YES, BOB)
        await house.reply(second.id, YES, BOB)
        assert await result(house, run) == "approve"
        assert await story(house) == ["opened", "decided", "voided expired", "opened", "decided", "used"]


async def test_an_approval_holds_an_hour_and_a_refusal_for_ever(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1")
        await house.pause("a", ALICE, wait_s=5)
        await house.reply((await pending(house)).id, NO, BOB)
        await trio.sleep(80_000)
        await house.resume("a", ALICE)
        assert await result(house, run) == "reject"
        run = await deploying(house, "v2")
        await house.pause("a", ALICE, wait_s=5)
        await house.reply((await pending(house)).id, YES, BOB)
        await trio.sleep(3599)
        await house.resume("a", ALICE)
        assert await result(house, run) == "approve"


@pytest.mark.parametrize("jump_s", [0, -10_000])
async def test_an_approval_that_expires_while_its_use_waits_at_the_gate_is_not_acted_upon(
    autojump_clock: MockClock, jump_s: float
) -> None:
    clock = Clock()
    async with a_house(kinds=[Deployer], store=SlowStore(delay_s=1.0), wall=clock) as house:
        run = await deploying(house, "v1", valid_s=100)
        request = await pending(house)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.reply, request.id, YES, BOB)
            await trio.sleep(1.5)
            await house.pause("a", ALICE)  # takes effect after the approval was used, and before that was durable
        clock.off_s = jump_s
        await trio.sleep(200)
        assert (await story(house))[-1] == "used"
        assert await deployed(house) == []
        await house.resume("a", ALICE)
        await run_until(house, run, "waiting")
        assert await deployed(house) == []
        await house.reply((await pending(house)).id, YES, BOB)
        assert await result(house, run) == "approve"


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
async def test_a_clock_that_is_set_never_lets_an_approval_hold_longer(autojump_clock: MockClock, jump_s: float) -> None:
    clock = Clock()
    async with a_house(kinds=[Deployer], wall=clock) as house:
        run = await deploying(house, "v1", valid_s=100)
        await house.pause("a", ALICE, wait_s=5)
        await house.reply((await pending(house)).id, YES, BOB)
        clock.off_s = jump_s
        await trio.sleep(101 if jump_s < 0 else 1)
        await house.resume("a", ALICE)
        await run_until(house, run, "waiting")
        clock.off_s = 0
        assert await deployed(house) == []
        assert await story(house) == ["opened", "decided", "voided expired", "opened"]


async def test_a_clock_that_is_set_back_before_a_restart_revives_nothing(autojump_clock: MockClock) -> None:
    clock, journal = Clock(), Journal()
    async with killed(journal, kinds=[Deployer], wall=clock) as house:
        await deploying(house, "v1", valid_s=100)
        await house.pause("a", ALICE, wait_s=5)
        await house.reply((await pending(house)).id, YES, BOB)
        await trio.sleep(99)
        await house.pause("a", BOB)  # the last that the journal hears
    clock.off_s = -1000
    async with a_house(journal, kinds=[Deployer], wall=clock) as house:
        await trio.sleep(2)
        await house.resume("a", ALICE, holder="*")
        await trio.sleep(1)
        assert await deployed(house) == []
        assert (await story(house))[2:] == ["voided expired", "opened"]


async def test_without_a_clock_nothing_is_approved(autojump_clock: MockClock) -> None:
    clock = Clock()
    async with a_house(kinds=[Deployer], wall=clock) as house:
        run = await deploying(house, "v1")
        await house.pause("a", ALICE, wait_s=5)
        await house.reply((await pending(house)).id, YES, BOB)
        cell = house.supervisor.cell("a")
        question = Question.of(
            "Deploy?", kind=RequestKind.APPROVAL, detail="", options=(), schema=None, action="v1", deadline_s=None,
            default=None, valid_s=None, escalate_s=None,
        )  # fmt: skip
        approved = cell.requests.ask(run, question)
        assert cell.requests.holds(approved)
        clock.broken = True
        assert not cell.requests.holds(approved)
        clock.broken = False


async def test_without_a_store_nothing_is_approved(autojump_clock: MockClock) -> None:
    store = BreakingStore()
    with pytest.raises(StoreUnavailable):
        async with a_house(kinds=[Deployer], store=store) as house:
            await deploying(house, "v1")
            store.broken = True
            await house.reply((await pending(house)).id, YES, BOB)
    async with a_house(store.journal, kinds=[Deployer]) as house:
        await trio.sleep(10)
        assert (await pending(house)).state == "pending"
        assert await deployed(house) == []


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("default, how", [("reject", "decided"), ("approve", "expired"), (None, "expired")])
async def test_a_deadline_that_passes_while_the_house_is_down_refuses(
    autojump_clock: MockClock, default: str | None, how: str, held: bool
) -> None:
    journal = Journal()
    async with killed(journal, kinds=[Deployer]) as house:
        run = await deploying(house, "v1", deadline_s=50, default=default)
        if held:
            await house.pause("a", ALICE, wait_s=5)
    await trio.sleep_until(100)
    async with a_house(journal, kinds=[Deployer]) as house:
        await trio.sleep(1)
        assert (await story(house))[:2] == ["opened", how]
        if held:
            await house.resume("a", ALICE)
        if how == "decided":
            assert await result(house, run) == "reject"
        else:  # the run is tried again, and asks again
            await run_until(house, run, "waiting")
            assert (await pending(house)).state == "pending"
        assert await deployed(house) == []


# -- once --------------------------------------------------------------------------------------------------------------
async def test_one_approval_lets_one_of_two_pass(autojump_clock: MockClock) -> None:
    class Twins(Engine):
        kind = "twins"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            async def deploy() -> None:
                await ctx.ask_human("Deploy?", kind=RequestKind.APPROVAL, action="v1")
                await ctx.emit("twins.deployed")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(deploy)
                nursery.start_soon(deploy)

    async with a_house(kinds=[Twins]) as house:
        run = await submit(house, await spawn(house, "a", "twins"), None)
        await run_until(house, run, "waiting")
        await house.reply((await pending(house)).id, YES, BOB)
        await trio.sleep(10)
        assert len(await journaled(house.supervisor.store, typed("twins.deployed"))) == 1
        await house.reply((await pending(house)).id, YES, BOB)
        await run_until(house, run, "ended")
        assert await story(house) == ["opened", "decided", "used", "opened", "decided", "used"]


async def test_a_decision_after_a_restart_is_shown_only_when_it_is_durable(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with killed(journal, kinds=[Deployer]) as house:
        await deploying(house, "v1")
    store = SlowStore(journal, delay_s=0)
    async with a_house(kinds=[Deployer], store=store) as house:
        request = await pending(house)
        store.delay_s = 1
        await house.reply(request.id, YES, BOB)
        assert len(await journaled(store, typed("request.decided"))) == 1


# -- changed -----------------------------------------------------------------------------------------------------------
async def test_changed_arguments_void_the_approval_that_was_not_used(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", "v2")
        await house.pause("a", ALICE, wait_s=5)
        first = await pending(house)
        await house.reply(first.id, YES, BOB)
        await house.restart("a", ALICE)
        await house.resume("a", ALICE)
        await run_until(house, run, "waiting")
        await trio.sleep(1)
        assert (await house.request(first.id)).voided == "changed"
        assert (await pending(house)).action == "v2"
        assert await deployed(house) == []
        await house.reply((await pending(house)).id, YES, BOB)
        assert await result(house, run) == "approve"
        assert await deployed(house) == ["v2"]
        assert await story(house) == ["opened", "decided", "voided changed", "opened", "decided", "used"]


async def test_changed_arguments_withdraw_the_question_that_waits(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", "v2")
        first = await pending(house)
        await house.restart("a", ALICE)
        await trio.sleep(1)
        again = await house.request(first.id)
        assert (again.state, again.reason) == ("withdrawn", "changed")
        with pytest.raises(RequestClosed):
            await house.reply(first.id, YES, BOB)
        await house.reply((await pending(house)).id, NO, BOB)
        assert await result(house, run) == "reject"


async def test_two_that_are_asked_at_once_in_the_same_words_void_nothing(autojump_clock: MockClock) -> None:
    class Both(Engine):
        kind = "both"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            got: dict[str, Any] = {}

            async def ask(action: str) -> None:
                got[action] = (await ctx.ask_human("Run?", kind=RequestKind.APPROVAL, action=action)).option

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "one")
                nursery.start_soon(ask, "two")
            return got

    async with a_house(kinds=[Both]) as house:
        run = await submit(house, await spawn(house, "a", "both"), None)
        await run_until(house, run, "waiting")
        await trio.sleep(1)
        for request in (await house.requests()).items:
            await house.reply(request.id, YES if request.action == "one" else NO, BOB)
        assert await result(house, run) == {"one": "approve", "two": "reject"}


# -- escalation --------------------------------------------------------------------------------------------------------
async def escalations(house: EmbeddedHouse) -> list[tuple[float, int, bool]]:
    """(second, level, nobody watching)"""
    rows = await journaled(house.supervisor.store, typed("request.escalated"))
    return [
        (round(epoch_ms(r.time) / 1000 - EPOCH, 1), r.data["level"], r.data["nobody_watching"]) for r in rows
    ]  # fmt: skip


async def test_each_level_is_told_once_that_nobody_decided(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", escalate_s=[10, 25])
        await trio.sleep(100)
        assert [(round(at), level) for at, level, _ in await escalations(house)] == [(10, 1), (25, 2)]
        shown = await pending(house)
        assert (shown.level, shown.escalate_s) == (2, [10, 25])
        assert shown.escalated_at is not None
        await house.reply(shown.id, NO, BOB)
        assert await result(house, run) == "reject"


async def test_what_is_decided_or_withdrawn_is_not_escalated(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", escalate_s=10)
        await house.reply((await pending(house)).id, NO, BOB)
        await result(house, run)
        run = await deploying(house, "v2", escalate_s=10)
        await house.cancel(run, ALICE)
        await trio.sleep(100)
        assert await escalations(house) == []


async def test_escalations_outlive_the_house_and_are_told_once(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with killed(journal, kinds=[Deployer]) as house:
        await deploying(house, "v1", escalate_s=[10, 25, 50])
        await house.pause("a", ALICE, wait_s=5)
        await trio.sleep_until(12)
    await trio.sleep_until(30)
    async with killed(journal, kinds=[Deployer]) as house:
        await trio.sleep_until(40)
        assert [(round(at), level) for at, level, _ in await escalations(house)] == [(10, 1), (30, 2)]
    async with a_house(journal, kinds=[Deployer]) as house:
        await trio.sleep_until(60)
        assert [(round(at), level) for at, level, _ in await escalations(house)] == [(10, 1), (30, 2), (50, 3)]


async def test_a_pool_says_when_its_requests_are_escalated(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        made = await house.create_pool(NewPool(id="p", escalate_after_s=(5.0, 15.0)))
        assert made.escalate_after_s == (5.0, 15.0)
        await deploying(house, "v1", pool="p")
        await deploying(house, "v1", engine="own", pool="p", escalate_s=[7])
        await trio.sleep(100)
        assert [(round(at), level) for at, level, _ in await escalations(house)] == [(5, 1), (7, 1), (15, 2)]


# -- four eyes ---------------------------------------------------------------------------------------------------------
async def test_who_asked_for_the_run_may_not_approve_it(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await house.create_pool(NewPool(id="p", four_eyes=True))
        run = await deploying(house, "v1", pool="p", caller=ALICE)
        request = await pending(house)
        assert request.asked_by == ["user:alice"]
        at = house.supervisor.folded
        for refused in (ALICE, Caller(), Caller(principal="engine:eng_1")):
            with pytest.raises(InsufficientScope):
                await house.reply(request.id, YES, refused)
            with pytest.raises(InsufficientScope):
                await house.command("a", Approve(), refused)
            with pytest.raises(InsufficientScope):
                await house.command("a", Reject(request_id=request.id), refused)
        assert house.supervisor.folded == at
        await house.reply(request.id, YES, BOB)
        assert await result(house, run) == "approve"


async def test_without_four_eyes_one_person_is_enough(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        run = await deploying(house, "v1", caller=ALICE)
        await house.reply((await pending(house)).id, YES, ALICE)
        assert await result(house, run) == "approve"


async def test_a_key_and_who_made_it_are_one_person(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        owners = {"key:k1": "user:alice", "key:k2": "user:alice", "key:k3": "user:bob"}
        house.identify(lambda principal: owners.get(principal, principal))
        await house.create_pool(NewPool(id="p", four_eyes=True))
        run = await deploying(house, "v1", pool="p", caller=Caller(principal="key:k1"))
        request = await pending(house)
        assert request.asked_by == ["key:k1", "user:alice"]
        del owners["key:k1"]  # who removes the key that they asked with is still who asked
        for principal in ("key:k1", "key:k2", "user:alice"):
            with pytest.raises(InsufficientScope):
                await house.reply(request.id, YES, Caller(principal=principal))
        await house.reply(request.id, YES, Caller(principal="key:k3"))
        assert await result(house, run) == "approve"


async def test_four_eyes_are_asked_for_again_when_a_decision_is_delivered(autojump_clock: MockClock) -> None:
    store = SlowStore(delay_s=1)
    async with a_house(kinds=[Deployer], store=store) as house:
        await house.create_pool(NewPool(id="p"))
        await deploying(house, "v1", pool="p", caller=ALICE)
        request = await pending(house)
        refused: list[Exception] = []

        async def reply() -> None:
            with pytest.raises(InsufficientScope) as error:
                await house.reply(request.id, YES, ALICE)
            refused.append(error.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            await trio.testing.wait_all_tasks_blocked()
            await house.patch_pool("p", PatchPool(four_eyes=True), frozenset({"four_eyes"}))
        assert len(refused) == 1
        assert (await pending(house)).state == "pending"


async def test_who_retries_somebody_elses_run_does_not_make_them_a_second_pair_of_eyes(
    autojump_clock: MockClock,
) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await house.create_pool(NewPool(id="p", four_eyes=True))
        run = await deploying(house, "v1", pool="p", caller=ALICE)
        await house.cancel(run, ALICE)
        await run_until(house, run, "ended")
        again, _ = await house.retry(run, BOB)
        await run_until(house, again.id, "waiting")
        request = await pending(house)
        assert sorted(request.asked_by) == ["user:alice", "user:bob"]
        for refused in (ALICE, BOB):
            with pytest.raises(InsufficientScope):
                await house.reply(request.id, YES, refused)
        await house.reply(request.id, YES, Caller(principal="user:carol"))


async def test_an_engine_that_asks_itself_asks_for_whoever_set_it_to_work(autojump_clock: MockClock) -> None:
    """A program of an engine submits with the engine's own token: behind that is who asked for what is in hand."""
    async with a_house(kinds=[Deployer]) as house:
        await house.create_pool(NewPool(id="p", four_eyes=True))
        first = await deploying(house, "v1", pool="p", caller=ALICE)
        own = Caller(principal=f"engine:{(await house.get('a')).uid}")
        second = await submit_as(house, "a", {"actions": ["v2"]}, own)
        await house.reply((await pending(house)).id, YES, BOB)
        await run_until(house, first, "ended")
        await run_until(house, second, "waiting")
        request = await pending(house)
        assert set(request.asked_by) == {"user:alice", own.principal}
        with pytest.raises(InsufficientScope):
            await house.reply(request.id, YES, ALICE)
        await house.reply(request.id, YES, BOB)


class Reactor(Engine):
    """Asks for approval outside any run, when it is told to."""

    kind = "reactor"

    async def on_signal(self, ctx: Any, name: str, payload: Any) -> None:
        await ctx.ask_human("Deploy?", kind=RequestKind.APPROVAL, action="v1")


async def test_who_sent_the_signal_may_not_approve_what_it_leads_to(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Reactor]) as house:
        await house.create_pool(NewPool(id="p", four_eyes=True))
        await spawn(house, "a", "reactor", pool="p")
        await house.command("a", Signal(name="deploy"), ALICE)
        await trio.sleep(1)
        request = await pending(house)
        assert request.asked_by == ["user:alice"]
        with pytest.raises(InsufficientScope):
            await house.reply(request.id, YES, ALICE)
        await house.reply(request.id, YES, BOB)


async def test_a_pool_with_rules_of_approvals_is_removed_by_an_admin_alone(autojump_clock: MockClock) -> None:
    """Or somebody who operates would make it anew without them."""

    def standing(*scopes: Scope) -> Caller:
        return Caller(principal="user:x", standing=lambda: Authority(scopes=frozenset(scopes)))

    async with a_house() as house:
        await house.create_pool(NewPool(id="plain"))
        await house.delete_pool("plain", standing(Scope.OPERATE))
        for rules in ({"four_eyes": True}, {"require_digest": True}, {"escalate_after_s": (60.0,)}):
            await house.create_pool(NewPool(id="p", **rules), standing(Scope.OPERATE))
            with pytest.raises(InsufficientScope):
                await house.delete_pool("p", standing(Scope.OPERATE, Scope.APPROVE), force=True)
            await house.delete_pool("p", standing(Scope.ADMIN))


async def test_only_an_admin_changes_the_rules_of_approvals(autojump_clock: MockClock) -> None:
    def standing(*scopes: Scope) -> Caller:
        return Caller(principal="user:x", standing=lambda: Authority(scopes=frozenset(scopes)))

    async with a_house() as house:
        await house.create_pool(NewPool(id="p", four_eyes=True, require_digest=True))
        for name, patch in (
            ("four_eyes", PatchPool(four_eyes=False)),
            ("require_digest", PatchPool(require_digest=False)),
            ("escalate_after_s", PatchPool(escalate_after_s=())),
        ):
            with pytest.raises(InsufficientScope):
                await house.patch_pool("p", patch, frozenset({name}), standing(Scope.OPERATE, Scope.APPROVE))
            await house.patch_pool("p", patch, frozenset({name}), standing(Scope.ADMIN))
        await house.patch_pool("p", PatchPool(max_engines=3), frozenset({"max_engines"}), standing(Scope.OPERATE))
        found = await house.pool("p")
        assert (found.four_eyes, found.require_digest, found.max_engines) == (False, False, 3)


# -- the digest in the reply -------------------------------------------------------------------------------------------
async def test_a_pool_may_want_every_approval_to_name_its_digest(autojump_clock: MockClock) -> None:
    async with a_house(kinds=[Deployer]) as house:
        await house.create_pool(NewPool(id="p", require_digest=True))
        run = await deploying(house, "v1", pool="p")
        request = await pending(house)
        with pytest.raises(ValidationFailed) as error:
            await house.reply(request.id, YES, BOB)
        assert error.value.extra["errors"][0]["loc"] == ["digest"]  # type: ignore[index]  # JSON values
        with pytest.raises(ValidationFailed):
            await house.command("a", Approve(), BOB)
        await house.reply(request.id, ReplyBody(option="approve", digest=request.digest), BOB)
        assert await result(house, run) == "approve"
        run = await deploying(house, "v1", pool="p")
        await house.reply((await pending(house)).id, NO, BOB)  # a refusal needs none
        assert await result(house, run) == "reject"
