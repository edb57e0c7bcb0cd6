"""Requests: everybody sees the pending ones in one place, and each is decided once."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.engine import Engine, RunInput
from protocol.bodies import NewPool, ReplyBody
from protocol.commands import Answer, Approve, Reject, Skip
from protocol.errors import (
    AlreadyDecided,
    AmbiguousRequest,
    ApprovalStale,
    NotFound,
    NothingPending,
    RequestClosed,
    ValidationFailed,
)
from protocol.requests import APPROVE, REJECT, RequestKind
from protocol.wire import RequestInfo
from supervisor import Caller, EmbeddedHouse
from tests.supervisor.houses import ALICE, BOB, SlowStore, a_house, journaled, run_until, spawn, submit

YES = {"id": "yes", "kind": "allow_once", "label": "Yes"}
NO = {"id": "no", "kind": "reject_once", "label": "No"}
LATER = {"id": "later", "kind": "skip", "label": "Later"}
APPROVAL: dict[str, Any] = {"kind": "approval", "title": "May I?", "options": [YES, NO, LATER]}


async def asked(house: EmbeddedHouse, engine: str = "a", **ask: Any) -> tuple[str, RequestInfo]:
    """A run that waits, and its request."""
    if engine not in house.supervisor.ids:
        await spawn(house, engine, "probe")
    run = await submit(house, engine, {"ask_at": 0, "ask": ask or APPROVAL})
    await run_until(house, run, "waiting")
    (request,) = (await house.requests(engine=engine)).items
    return run, request


async def answer_of(house: EmbeddedHouse, run: str) -> Any:
    await run_until(house, run, "ended")
    return (await house.run(run)).result["answers"][0]


async def test_a_reply_is_durable_when_it_returns(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run, request = await asked(house)
        assert (request.state, request.run_id, request.title) == ("pending", run, "May I?")
        decided = await house.reply(request.id, ReplyBody(option="yes", comment="go"), ALICE)
        assert decided.state == "answered"
        (row,) = await journaled(house.supervisor.store, lambda row: row.type == "request.decided")
        assert row.data["decision"]["by"] == "user:alice"
        assert decided.decision is not None
        assert {k: decided.decision[k] for k in ("option", "comment", "by")} == {
            "option": "yes", "comment": "go", "by": "user:alice",
        }  # fmt: skip
        assert await answer_of(house, run) == "yes"
        assert (await house.requests()).items == []
        assert [r.id for r in (await house.requests(state="decided")).items] == [request.id]


async def test_the_first_decision_stands_and_the_second_is_told_of_it(autojump_clock: MockClock) -> None:
    async with a_house(store=SlowStore()) as house:
        run, request = await asked(house)
        outcomes: list[Any] = []

        async def reply(option: str, caller: Caller) -> None:
            try:
                outcomes.append((await house.reply(request.id, ReplyBody(option=option), caller)).decision)
            except AlreadyDecided as error:
                outcomes.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply, "yes", ALICE)
            nursery.start_soon(reply, "no", BOB)
        (winner,) = [o for o in outcomes if isinstance(o, dict)]
        (loser,) = [o for o in outcomes if isinstance(o, AlreadyDecided)]
        assert loser.extra["decision"] == winner
        assert await answer_of(house, run) == winner["option"]
        with pytest.raises(AlreadyDecided) as late:
            await house.reply(request.id, ReplyBody(option="no"), BOB)
        assert late.value.extra["decision"] == winner
        await house.dispose("a")
        with pytest.raises(AlreadyDecided):
            await house.reply(request.id, ReplyBody(option="no"), BOB)


async def test_a_repeated_reply_gets_the_first_answer(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run, request = await asked(house)
        caller = Caller(principal="user:alice", key="k")
        first = await house.reply(request.id, ReplyBody(option="yes"), caller)
        await answer_of(house, run)
        assert (await house.reply(request.id, ReplyBody(option="yes"), caller)).decision == first.decision


async def test_a_closed_request_takes_no_reply(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run, request = await asked(house)
        await house.cancel(run, ALICE, reason="enough")
        with pytest.raises(RequestClosed):
            await house.reply(request.id, ReplyBody(option="yes"), BOB)
        await run_until(house, run, "ended")
        assert (await house.request(request.id)).state == "withdrawn"
        run, request = await asked(house, kind="question", deadline_s=5.0)
        await run_until(house, run, "ended")
        assert (await house.request(request.id)).state == "expired"
        with pytest.raises(RequestClosed):
            await house.reply(request.id, ReplyBody(answer="late"), BOB)
        with pytest.raises(NotFound):
            await house.reply("req_none", ReplyBody(answer="?"), BOB)


@pytest.mark.parametrize(
    "reply, error",
    [
        (ReplyBody(option="maybe"), ValidationFailed),
        (ReplyBody(), ValidationFailed),
        (ReplyBody(answer="yes"), ValidationFailed),
        (ReplyBody(option="yes", digest="0" * 64), ApprovalStale),
    ],
)
async def test_a_reply_that_cannot_be_meant_changes_nothing(
    autojump_clock: MockClock, reply: ReplyBody, error: type[Exception]
) -> None:
    async with a_house() as house:
        run, request = await asked(house)
        at = house.supervisor.folded
        with pytest.raises(error):
            await house.reply(request.id, reply, ALICE)
        assert house.supervisor.folded == at
        await house.reply(request.id, ReplyBody(option="no", digest=request.digest), ALICE)
        assert await answer_of(house, run) == "no"


async def test_the_short_forms_choose_by_the_kind_of_option(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        for body, option in ((Approve(), "yes"), (Reject(feedback="no"), "no"), (Skip(), "later")):
            run, _ = await asked(house)
            await house.command("a", body, ALICE)
            assert await answer_of(house, run) == option
        with pytest.raises(NothingPending):
            await house.command("a", Approve(), ALICE)
        run, request = await asked(house, kind="question", title="What?")
        with pytest.raises(NothingPending):
            await house.command("a", Approve(), ALICE)
        await house.command("a", Answer(request_id=request.id, answer={"any": "thing"}), ALICE)
        assert await answer_of(house, run) == {"any": "thing"}


async def test_an_approval_is_decided_by_one_of_its_options_alone(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        run, request = await asked(house)
        with pytest.raises(ValidationFailed):
            await house.command("a", Answer(request_id=request.id, answer="yes"), ALICE)
        assert (await house.request(request.id)).state == "pending"
        await house.command("a", Reject(), ALICE)
        assert await answer_of(house, run) == "no"


async def test_lists_of_requests_are_filtered_and_paged(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await house.create_pool(NewPool(id="p"))
        for n in range(5):
            await spawn(house, f"e{n}", "probe", pool="p" if n % 2 else "default")
            ask: dict[str, Any] = {"kind": "question"} if n < 2 else APPROVAL
            await asked(house, f"e{n}", **ask)
        everything = (await house.requests()).items
        assert [r.engine_id for r in everything] == ["e4", "e3", "e2", "e1", "e0"]
        assert [r.engine_id for r in (await house.requests(pool="p")).items] == ["e3", "e1"]
        assert [r.engine_id for r in (await house.requests(kind="question")).items] == ["e1", "e0"]
        assert [r.engine_id for r in (await house.requests(engine="e3")).items] == ["e3"]
        for kind in (None, "approval"):
            paged: list[str] = []
            cursor = None
            while True:
                page = await house.requests(kind=kind, limit=2, cursor=cursor)
                paged += [r.id for r in page.items]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert paged == [r.id for r in everything if kind in (None, r.kind)]
        with pytest.raises(ValidationFailed):
            await house.requests(cursor="nonsense")


async def test_a_deadline_decides_while_the_engine_is_paused_and_is_acted_upon_later(
    autojump_clock: MockClock,
) -> None:
    async with a_house() as house:
        run, request = await asked(house, **APPROVAL, deadline_s=10.0, default="no")
        await house.pause("a", ALICE, wait_s=5)
        await trio.sleep(20)
        decided = await house.request(request.id)
        assert decided.decision is not None
        assert (decided.state, decided.decision["by"]) == ("answered", "deadline")
        assert not (await house.run(run)).finished_at
        await house.resume("a", ALICE)
        assert await answer_of(house, run) == "no"


async def test_several_pending_approvals_have_to_be_named(autojump_clock: MockClock) -> None:
    class Twice(Engine):
        kind = "twice"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            got: dict[str, Any] = {}

            async def ask(title: str) -> None:
                decided = await ctx.ask_human(title, kind=RequestKind.APPROVAL, options=[APPROVE, REJECT])
                got[title] = decided.option

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "one")
                nursery.start_soon(ask, "two")
            return got

    async with a_house(kinds=[Twice]) as house:
        run = await submit(house, await spawn(house, "a", "twice"), None)
        await run_until(house, run, "waiting")
        await trio.sleep(1)
        with pytest.raises(AmbiguousRequest) as ambiguous:
            await house.command("a", Approve(), ALICE)
        pending = (await house.requests()).items
        assert sorted(r.id for r in pending) == sorted(ambiguous.value.extra["pending"])  # type: ignore[call-overload]
        one = next(r for r in pending if r.title == "one")
        await house.command("a", Approve(request_id=one.id), ALICE)
        assert (await house.run(run)).status == "waiting"
        await house.command("a", Reject(), ALICE)
        await run_until(house, run, "ended")
        assert (await house.run(run)).result == {"one": "approve", "two": "reject"}


async def test_a_decision_that_names_no_request_of_this_engine_finds_none(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await spawn(house, "a", "probe")
        await spawn(house, "b", "probe")
        await submit(house, "a", {"ask_at": 1, "ask": APPROVAL})
        await trio.sleep(1)
        (pending,) = (await house.requests()).items
        for engine, named in (("b", pending.id), ("a", "req_none")):
            with pytest.raises(NotFound):
                await house.command(engine, Approve(request_id=named), ALICE)
        await house.command("a", Approve(request_id=pending.id), ALICE, wait_s=1)
