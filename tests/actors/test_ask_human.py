from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from actors import Context, Engine, RequestExpired, RunContext, RunInput
from protocol.bodies import ReplyBody
from protocol.commands import Approve, Reject
from protocol.errors import AlreadyDecided, RequestClosed
from protocol.requests import APPROVE, REJECT, Option, OptionKind, RequestKind
from protocol.specs import OnInterrupt
from tests.actors.stage import ANN, BOB, OpenStage

YES = Option(id="yes", kind=OptionKind.ALLOW_ONCE, label="Yes")
NO = Option(id="no", kind=OptionKind.REJECT_ONCE, label="No")


class Asker(Engine):
    """Asks what its input says, works a second on what it was told, and gives that as its result."""

    kind = "asker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        asked = dict(run.input or {})
        options = {"yes/no": (YES, NO), "approve": (APPROVE, REJECT)}.get(asked.pop("options", ""), ())
        decided = await ctx.ask_human(
            "May I?", options=options, kind=RequestKind(asked.pop("kind", "question")), **asked
        )
        await ctx.emit("asker.acted")
        await trio.sleep(1)
        return [decided.option, decided.answer, decided.by]


class Crasher(Asker):
    """Crashes while it acts upon its first answer, `actions` says on what."""

    kind = "crasher"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        action = (run.input or {}).get("actions", ["a"] * 9)[run.attempt - 1]
        decided = await ctx.ask_human("May I?", action=action, options=(YES, NO))
        if run.attempt == 1:
            raise ValueError("crashed with the answer in hand")
        return decided.option


# -- deciding ---
async def test_a_run_waits_for_the_decision_and_goes_on_with_it(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit()
        await on.until(5)
        request = await on.pending()
        assert (request.title, request.kind, request.state, request.run_id) == ("May I?", "question", "pending", run)
        assert await on.status(run) == "waiting"
        await on.reply(answer={"n": 1})
        await on.until(10)
        assert (await on.house.run(run)).result == [None, {"n": 1}, "bob"]
        assert await on.trace("run", "request") == [
            (0, "queued"),
            (0, "started"),
            (0, "opened"),
            (0, "waiting"),
            (5, "decided"),
            (5, "used"),
            (6, "completed"),
        ]


async def test_the_first_decision_wins_and_the_second_is_told_of_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit({"options": "yes/no"})
        await on.until(1)
        request = await on.pending()
        outcomes: list[str] = []

        async def reply(option: str) -> None:
            try:
                found = await on.house.reply(request.id, ReplyBody(option=option), BOB)
                outcomes.append(f"won {(found.decision or {})['option']}")
            except AlreadyDecided as error:
                outcomes.append(f"lost to {error.extra['decision']['option']}")  # type: ignore[index]  # JSON values

        on.store.delay_s = 0.1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply, "yes")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(reply, "no")
        assert sorted(outcomes) == ["lost to yes", "won yes"]
        with pytest.raises(AlreadyDecided):
            await on.house.reply(request.id, ReplyBody(option="no"), ANN)
        await on.until(10)
        assert (await on.house.run(run)).result == ["yes", None, "bob"]
        assert await on.words("request.decided") == ["decided"]


async def test_a_decision_is_durable_before_it_is_acted_upon(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        await on.submit()
        await on.until(1)
        on.store.delay_s = 1
        await on.reply(answer=1)
        await on.until(20)
        assert await on.words("request", "asker") == ["opened", "decided", "used", "acted"]
        times = {word: at for at, word in await on.trace("request", "asker")}
        assert times["acted"] >= times["used"] + 1


@pytest.mark.parametrize("body,option", [(Approve(comment="ok"), "approve"), (Reject(feedback="no"), "reject")])
async def test_the_short_forms_decide_the_one_approval_that_waits(
    stage: OpenStage, autojump_clock: MockClock, body: Any, option: str
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        assert await on.refused(lambda: on.house.command("e", body, BOB)) == "nothing-pending"
        run = await on.submit({"kind": "approval", "options": "approve"})
        await on.until(1)
        await on.house.command("e", body, BOB)
        await on.until(5)
        assert (await on.house.run(run)).result == [option, None, "bob"]


async def test_what_is_no_option_is_refused_and_decides_nothing(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        await on.submit({"kind": "approval", "options": "yes/no"})
        await on.until(1)
        assert await on.refused(lambda: on.reply("maybe")) == "validation-failed"
        assert await on.refused(on.reply) == "validation-failed"
        request = await on.pending()
        stale = ReplyBody(option="yes", digest="0" * 64)
        assert await on.refused(lambda: on.house.reply(request.id, stale, BOB)) == "approval-stale"
        await on.house.reply(request.id, ReplyBody(option="yes", digest=request.digest), BOB)


# -- deadlines ---
async def test_a_deadline_decides_the_default(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit({"options": "yes/no", "deadline_s": 30, "default": "yes"})
        await on.until(50)
        assert (await on.house.run(run)).result == ["yes", None, "deadline"]
        assert await on.trace("request.decided") == [(30, "decided")]


async def test_a_deadline_without_a_default_expires_the_request_and_fails_the_run(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit({"deadline_s": 30})
        await on.until(1)
        request = await on.pending()
        await on.until(50)
        found = await on.house.run(run)
        assert (found.status, (found.error or {})["slug"]) == ("failed", "request-expired")
        assert await on.trace("request.expired", "run.failed") == [(30, "expired"), (30, "failed")]
        assert (await on.house.get("e")).incarnation == 1
        with pytest.raises(RequestClosed):
            await on.house.reply(request.id, ReplyBody(answer=1), BOB)


@pytest.mark.parametrize("default,how", [("approve", "expired"), ("reject", "decided")])
async def test_a_deadline_never_approves(stage: OpenStage, autojump_clock: MockClock, default: str, how: str) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        await on.submit({"kind": "approval", "options": "approve", "deadline_s": 30, "default": default})
        await on.until(50)
        assert await on.trace("request.decided", "request.expired") == [(30, how)]


async def test_an_expired_request_can_be_caught(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Patient(Engine):
        kind = "patient"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            try:
                await ctx.ask_human("Well?", deadline_s=5)
            except RequestExpired:
                return "went on without"

    async with stage(Patient) as on:
        await on.spawn(Patient)
        assert (await on.run()).result == "went on without"


async def test_a_deadline_runs_while_paused_and_is_acted_upon_after_the_release(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        await on.submit({"options": "yes/no", "deadline_s": 30, "default": "no"})
        await on.until(10)
        await on.pause()
        await on.until(100)
        await on.resume()
        await on.until(200)
        assert await on.trace("request", "asker", "engine.paused", "engine.resumed") == [
            (0, "opened"),
            (10, "paused"),
            (30, "decided"),
            (100, "resumed"),
            (100, "used"),
            (100, "acted"),
        ]


async def test_a_default_that_is_no_option_crashes_the_asker_and_not_the_house(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit({"options": "yes/no", "default": "maybe"})
        await on.until(0.5)
        assert (await on.status(run), await on.state()) == ("failed", "backing_off")


# -- attempts ---
async def test_a_retried_run_finds_its_pending_question(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker, on_interrupt=OnInterrupt.RETRY)
        run = await on.submit()
        await on.until(1)
        before = await on.pending()
        await on.house.restart("e")
        await on.until(5)
        assert (await on.pending()).id == before.id
        await on.reply(answer=1)
        await on.until(10)
        found = await on.house.run(run)
        assert (found.result, found.attempts) == ([None, 1, "bob"], 2)
        assert await on.words("request.opened") == ["opened"]


async def test_a_retried_run_finds_its_unused_answer(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker, on_interrupt=OnInterrupt.RETRY)
        run = await on.submit({"options": "yes/no"})
        await on.until(1)
        await on.pause()
        await on.reply("yes")
        await on.until(2)
        await on.house.restart("e")
        await on.until(5)
        await on.resume()
        await on.until(20)
        found = await on.house.run(run)
        assert (found.result, found.attempts) == (["yes", None, "bob"], 2)
        assert await on.trace("request") == [(0, "opened"), (1, "decided"), (5, "used")]


async def test_a_pending_question_and_an_unused_answer_outlive_the_house(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker, check=False) as on:
        await on.spawn(Asker, "asks", on_interrupt=OnInterrupt.RETRY)
        await on.spawn(Asker, on_interrupt=OnInterrupt.RETRY)
        answered = await on.submit({"options": "yes/no"})
        await on.until(1)
        await on.pause()
        await on.reply("yes")
        asks = await on.submit(engine="asks")
        await on.until(2)
        journal = on.store.journal
    async with stage(Asker, journal=journal) as on:
        await on.until(5)
        assert (await on.pending()).run_id == asks
        await on.reply(answer=2)
        await on.resume()
        await on.until(20)
        assert (await on.house.run(asks)).result == [None, 2, "bob"]
        assert (await on.house.run(answered)).result == ["yes", None, "bob"]


async def test_an_answer_that_was_used_is_not_used_twice(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Crasher) as on:
        await on.spawn(Crasher, on_interrupt=OnInterrupt.RETRY)
        run = await on.submit()
        await on.until(1)
        await on.reply("yes")
        await on.until(5)
        assert await on.words("request") == ["opened", "decided", "used", "opened"]
        await on.reply("no")
        await on.until(10)
        assert (await on.house.run(run)).result == "no"


async def test_a_changed_action_is_asked_anew(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Changing(Engine):
        kind = "changing"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            decided = await ctx.ask_human("Run it?", action={"attempt": run.attempt}, options=(YES, NO))
            return [run.attempt, decided.option]

    async with stage(Changing) as on:
        await on.spawn(Changing, on_interrupt=OnInterrupt.RETRY)
        run = await on.submit()
        await on.until(1)
        await on.pause()
        first = await on.pending()
        await on.house.reply(first.id, ReplyBody(option="yes"), BOB)
        await on.house.restart("e")
        await on.until(2)
        await on.resume()
        await on.until(3)
        second = await on.pending()
        assert (second.id != first.id, second.digest != first.digest) == (True, True)
        await on.house.reply(second.id, ReplyBody(option="no"), BOB)
        await on.until(10)
        assert (await on.house.run(run)).result == [2, "no"]


async def test_two_questions_of_one_run_wait_each_for_itself(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Both(Engine):
        kind = "both"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            answers: dict[str, Any] = {}

            async def ask(title: str) -> None:
                answers[title] = (await ctx.ask_human(title)).answer

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "one")
                nursery.start_soon(ask, "two")
            return answers

    async with stage(Both) as on:
        await on.spawn(Both)
        run = await on.submit()
        await on.until(1)
        requests = (await on.house.requests()).items
        assert sorted(request.title for request in requests) == ["one", "two"]
        await on.house.reply(requests[0].id, ReplyBody(answer=requests[0].title), BOB)
        await on.until(2)
        assert await on.status(run) == "waiting"
        await on.reply(answer=requests[1].title)
        await on.until(3)
        assert (await on.house.run(run)).result == {"one": "one", "two": "two"}


# -- withdrawn ---
@pytest.mark.parametrize("end", ["cancel", "stop", "dispose"])
async def test_what_ends_the_run_withdraws_its_question(stage: OpenStage, autojump_clock: MockClock, end: str) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        run = await on.submit()
        await on.until(1)
        request = await on.pending()
        if end == "cancel":
            await on.house.cancel(run)
        elif end == "stop":
            await on.house.stop("e")
        else:
            await on.house.dispose("e", force=True)
        await on.until(2)
        assert (await on.house.request(request.id)).state == "withdrawn"
        assert (await on.house.requests()).items == []
        assert await on.status(run) == "cancelled"
        with pytest.raises(RequestClosed):
            await on.house.reply(request.id, ReplyBody(answer=1), BOB)
        assert await on.words("request") == ["opened", "withdrawn"]


async def test_a_stop_withdraws_the_question_of_a_run_that_waits_to_be_tried_again(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker, on_interrupt=OnInterrupt.RETRY)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.house.restart("e")
        await on.until(2)
        await on.pending()
        await on.house.stop("e")
        await on.until(3)
        assert (await on.house.requests()).items == []


async def test_a_question_outside_a_run_ends_with_its_incarnation(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Greeter(Engine):
        kind = "greeter"

        async def on_start(self, ctx: Context) -> None:
            async def ask() -> None:
                await ctx.emit("greeter.heard", {"answer": (await ctx.ask_human("Who is there?")).answer})

            ctx.nursery.start_soon(ask)

    async with stage(Greeter) as on:
        await on.spawn(Greeter)
        first = await on.pending()
        await on.house.restart("e")
        await on.until(1)
        assert (await on.house.request(first.id)).state == "withdrawn"
        await on.reply(answer="me")
        await on.until(2)
        assert await on.data("greeter.heard") == [{"answer": "me"}]


async def test_a_decision_while_paused_is_acted_upon_when_the_gate_opens(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Asker) as on:
        await on.spawn(Asker)
        await on.submit()
        await on.until(1)
        await on.pause()
        await on.until(2)
        await on.reply(answer=1)
        await on.until(9)
        await on.resume()
        await on.until(20)
        assert await on.trace("request.decided", "asker") == [(2, "decided"), (9, "acted")]


class Quitter(Engine):
    """Asks two questions at once, and after a second gives up the first."""

    kind = "quitter"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        async def ask(title: str, scope: trio.CancelScope) -> None:
            with scope:
                await ctx.ask_human(title)

        given_up, kept = trio.CancelScope(), trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "First?", given_up)
            nursery.start_soon(ask, "Second?", kept)
            await trio.sleep(1)
            given_up.cancel()
            await trio.testing.wait_all_tasks_blocked()
            ctx.drop_questions()


async def test_a_question_that_nobody_waits_for_can_be_dropped_alone(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Quitter) as on:
        await on.spawn(Quitter)
        run = await on.submit()
        await on.until(2)
        assert [row["reason"] for row in await on.data("request.withdrawn")] == ["nobody waits for it"]
        assert (await on.pending()).title == "Second?"
        assert await on.status(run) == "waiting"
        await on.reply(answer="yes")
        await on.until(3)
        assert await on.status(run) == "completed"
