"""The probe does what it is told, through a real house on virtual time."""

from typing import Any, cast

import pytest
import trio

from protocol.bodies import NewRun, ReplyBody
from protocol.commands import Signal
from protocol.errors import ValidationFailed
from protocol.specs import PauseMode, Policy, Restart


@pytest.fixture
async def probe(drive: Any) -> str:
    engine: str = await drive.spawn("probe", {})
    return engine


async def test_a_string_is_echoed_and_remembered(autojump_clock: object, drive: Any, probe: str) -> None:
    for text in ("hello", "again"):
        assert (await drive.run(probe, text)).result == {"text": text, "steps_done": 1}
    said = (await drive.house.slice(probe, "conversation")).value
    assert said == [{"role": "user", "content": "hello"}, {"role": "user", "content": "again"}]


async def test_it_remembers_no_more_than_200_messages(autojump_clock: object, drive: Any, probe: str) -> None:
    for number in range(201):
        await drive.run(probe, str(number))
    said = (await drive.house.slice(probe, "conversation")).value
    assert [message["content"] for message in said] == [str(number) for number in range(101, 201)]


async def test_it_steps_in_its_own_time_and_shows_where_it_is(autojump_clock: object, drive: Any, probe: str) -> None:
    before = trio.current_time()
    run, _ = await drive.house.submit(probe, NewRun(input={"steps": 3, "step_s": 2}))
    await trio.sleep(5)
    assert (await drive.house.slice(probe, "progress")).value == {"step": 2, "steps": 3}
    async with drive.seen(probe, "run.completed"):
        pass
    assert trio.current_time() - before == pytest.approx(6)
    assert (await drive.house.run(run.id)).result == {"steps_done": 3, "answers": []}
    assert (await drive.house.slice(probe, "progress")).value == {"step": 3, "steps": 3}


async def test_a_run_without_steps_shows_step_0(autojump_clock: object, drive: Any, probe: str) -> None:
    assert (await drive.run(probe, {"steps": 0})).result == {"steps_done": 0, "answers": []}
    assert (await drive.house.slice(probe, "progress")).value == {"step": 0, "steps": 0}


@pytest.mark.parametrize("size, steps", [(10, 3), (200_001, 1), (200_001, 7)])
async def test_it_writes_exactly_the_output_that_was_asked_for(drive: Any, size: int, steps: int) -> None:
    probe = await drive.spawn("probe", {})
    run = await drive.run(probe, {"steps": steps, "output_bytes": size})
    output, offset = await drive.house.output(run.id)
    assert (len(output), offset, run.output_bytes) == (size, size, size)


async def test_it_passes_one_pause_point_a_step(autojump_clock: object, drive: Any, probe: str) -> None:
    await drive.house.pause(probe, wait_s=1)
    run, _ = await drive.house.submit(probe, NewRun(input={"steps": 2, "step_s": 1}))
    await drive.house.resume(probe)
    await trio.sleep(0.5)
    await drive.house.pause(probe, mode=PauseMode.SOFT, wait_s=10)
    at_rest = (await drive.house.slice(probe, "progress")).value["step"]
    await trio.sleep(100)
    assert (await drive.house.slice(probe, "progress")).value["step"] == at_rest < 2
    async with drive.seen(probe, "run.completed"):
        await drive.house.resume(probe)
    assert (await drive.house.run(run.id)).attempts == 1


async def test_it_fails_its_run_when_told_and_goes_on(autojump_clock: object, drive: Any, probe: str) -> None:
    run = await drive.run(probe, {"steps": 3, "fail_at": 2})
    assert (run.status, run.error["slug"], run.result) == ("failed", "probe-failed", {"steps_done": 2, "answers": []})
    assert (await drive.run(probe, "on")).status == "completed"


@pytest.mark.parametrize("step", [0, 2])
async def test_it_crashes_when_told_and_its_runs_are_retried(autojump_clock: object, drive: Any, step: int) -> None:
    probe = await drive.spawn("probe", {}, restart=Restart(policy=Policy.PERMANENT))
    run = await drive.run(probe, {"steps": 3, "crash_at": step})
    assert (run.status, run.attempts, run.error["slug"]) == ("failed", 3, "interrupted")
    assert f"told to crash at step {step}" in (await drive.house.get(probe)).last_exit["error"]


async def test_it_asks_and_records_the_answer(autojump_clock: object, drive: Any, probe: str) -> None:
    ask = {"kind": "question", "title": "Which?", "options": [{"id": "a", "kind": "choice", "label": "A"}]}
    async with drive.seen(probe, "request.opened"):
        run, _ = await drive.house.submit(probe, NewRun(input={"steps": 2, "ask_at": 1, "ask": ask}))
    [request] = (await drive.house.requests()).items
    assert request.title == "Which?"
    async with drive.seen(probe, "run.completed"):
        await drive.house.reply(request.id, ReplyBody(option="a"))
    assert (await drive.house.run(run.id)).result == {"steps_done": 2, "answers": ["a"]}


async def test_it_asks_a_question_of_its_own_when_none_is_given(autojump_clock: object, drive: Any, probe: str) -> None:
    async with drive.seen(probe, "request.opened"):
        run, _ = await drive.house.submit(probe, NewRun(input={"ask_at": 1}))
    [request] = (await drive.house.requests()).items
    async with drive.seen(probe, "run.completed"):
        await drive.house.reply(request.id, ReplyBody(answer={"because": 1}))
    assert (await drive.house.run(run.id)).result == {"steps_done": 1, "answers": [{"because": 1}]}


async def test_it_goes_on_for_as_long_as_it_ignores_a_cancellation(
    autojump_clock: object, drive: Any, probe: str
) -> None:
    run, _ = await drive.house.submit(probe, NewRun(input={"step_s": 1000, "ignore_cancel_s": 7}))
    await trio.sleep(1)
    before = trio.current_time()
    async with drive.seen(probe, "run.cancelled"):
        await drive.house.cancel(run.id)
    assert trio.current_time() - before == pytest.approx(7)


async def test_a_signal_can_crash_it(autojump_clock: object, drive: Any, probe: str) -> None:
    async with drive.seen(probe, "engine.failed", holding="told to crash by a signal"):
        await drive.house.command(probe, Signal(name="crash"))


async def test_echo_answers_its_payload(autojump_clock: object, drive: Any, probe: str) -> None:
    _, done = await drive.house.command(probe, Signal(name="echo", payload={"x": [1]}), wait_s=5)
    assert done is not None
    assert done.result == {"x": [1]}


@pytest.mark.parametrize(
    "input",
    [1, None, {"steps": -1}, {"steps": True}, {"no": 1}, {"ask": {"title": ""}}, {"ask": {"default": "blue"}}],
)
async def test_an_input_that_cannot_be_meant_is_refused(
    autojump_clock: object, drive: Any, probe: str, input: Any
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await drive.house.submit(probe, NewRun(input=input))
    assert all(error["loc"][0] == "input" for error in cast("list[dict[str, Any]]", refused.value.extra["errors"]))
