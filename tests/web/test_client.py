"""What a remote house asks, what it asks again, and what it makes of the answers. Virtual time, no sockets."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import pytest
import trio
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, use_span
from trio.testing import MockClock

from protocol import commands
from protocol.bodies import NewEngine, NewRun, PatchPool
from protocol.errors import (
    Draining,
    EngineBusy,
    IdempotencyMismatch,
    InvalidState,
    NotFound,
    RateLimited,
    StoreUnavailable,
)
from supervisor.house import Caller, House
from web.client.connection import Connection, Retry, path, read
from web.client.errors import Unreachable
from web.client.remote import RemoteHouse, open_remote

Script = Callable[[httpx2.Request], httpx2.Response]

RUN = {
    "id": "run_1", "engine_id": "a", "pool": "default", "status": "completed", "priority": "normal", "input": 1,
    "result": 2, "error": None, "labels": {}, "created_at": "t", "started_at": None, "finished_at": "t",
    "elapsed_s": None, "queue_position": None, "estimated_completion_at": None, "attempts": 1, "usage": {},
    "digest": None, "retry_of": None, "cancelled_by": None, "reason": None, "command_id": "cmd_1", "output_bytes": 0,
    "seq": 7,
}  # fmt: skip
COMMAND = {
    "id": "cmd_1", "engine_id": "a", "type": "pause", "state": "completed", "principal": "key:admin", "run_id": None,
    "created_at": "t", "started_at": None, "finished_at": "t", "changed": True, "result": None, "problem": None,
    "seq": 3,
}  # fmt: skip
ACCEPTED = {"command_id": "cmd_1", "engine_id": "a", "type": "stop", "state": "accepted", "seq": 3}


def refusal(status: int, slug: str, **members: object) -> httpx2.Response:
    headers = {"content-type": "application/problem+json"}
    if "retry_after" in members:
        headers["retry-after"] = str(members.pop("retry_after"))
    return httpx2.Response(status, headers=headers, json={"type": f"/problems/{slug}", "detail": "So.", **members})


class Answers:
    """A house that gives scripted answers, and remembers what it was asked and when."""

    def __init__(self, *answers: httpx2.Response | Exception | Script) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []
        self.times: list[float] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.asked.append(request)
        self.times.append(trio.current_time())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else answer(request)

    def keys(self) -> list[str | None]:
        return [request.headers.get("idempotency-key") for request in self.asked]

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.asked]


@asynccontextmanager
async def house_of(answers: Answers, retry: Retry | None = None) -> AsyncIterator[RemoteHouse]:
    transport = httpx2.MockTransport(answers)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://house") as client,
        trio.open_nursery() as nursery,
    ):
        yield RemoteHouse(Connection(client, "http://house", retry or Retry()), nursery)


def refused() -> Exception:
    return httpx2.ConnectError("connection refused")


def cut() -> Exception:
    return httpx2.RemoteProtocolError("peer closed the connection")


async def test_a_remote_house_is_a_house() -> None:
    async with house_of(Answers()) as house:
        as_house: House = house  # what is checked here is checked by mypy
        assert as_house is house


async def test_a_get_is_asked_again_when_its_answer_was_cut_off(autojump_clock: MockClock) -> None:
    answers = Answers(cut(), refused(), httpx2.Response(200, json=RUN))
    async with house_of(answers) as house:
        assert (await house.run("run_1")).result == 2
    assert [request.url.path for request in answers.asked] == ["/api/v1/runs/run_1"] * 3


async def test_the_span_that_it_is_called_in_is_told_to_the_house() -> None:
    parent = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1), trace_state=TraceState([("v", "1")]))
    answers = Answers(*[httpx2.Response(200, json=RUN)] * 2)
    async with house_of(answers) as house:
        await house.run("run_1")
        with use_span(NonRecordingSpan(parent)):
            await house.run("run_1")
    outside, within = answers.asked
    assert not {"traceparent", "tracestate"} & outside.headers.keys()
    assert within.headers["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert within.headers["tracestate"] == "v=1"


async def test_a_command_is_asked_again_under_the_same_key(autojump_clock: MockClock) -> None:
    answers = Answers(cut(), refusal(503, "shutting-down"), httpx2.Response(202, json=ACCEPTED))
    async with house_of(answers) as house:
        await house.stop("a")
    assert len(answers.asked) == 3
    assert len(set(answers.keys())) == 1
    assert answers.keys()[0]


async def test_each_command_has_a_key_of_its_own_unless_it_is_given_one() -> None:
    answers = Answers(*[httpx2.Response(202, json=ACCEPTED) for _ in range(3)])
    async with house_of(answers) as house:
        await house.stop("a")
        await house.stop("a")
        await house.stop("a", Caller(key="mine"))
    first, second, third = answers.keys()
    assert first != second
    assert third == "mine"


async def test_what_is_not_safe_is_never_sent_twice(autojump_clock: MockClock) -> None:
    answers = Answers(cut(), cut())
    async with house_of(answers) as house:
        with pytest.raises(Unreachable, match="http://house"):
            await house.dispose("a", force=True)
        with pytest.raises(Unreachable):
            await house.patch_pool("p", PatchPool(max_engines=1), frozenset({"max_engines"}))
    assert len(answers.asked) == 2


async def test_a_refused_connection_carried_nothing_so_anything_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    done = httpx2.Response(200, json={"id": "a", "uid": "u", "state": "disposed", "leaks": [], "dead_letters": 0})
    answers = Answers(refused(), refused(), done)
    async with house_of(answers) as house:
        assert (await house.dispose("a")).state == "disposed"


@pytest.mark.parametrize(
    "answer, error",
    [
        (refusal(404, "not-found"), NotFound),
        (refusal(409, "invalid-state"), InvalidState),
        (refusal(422, "idempotency-mismatch"), IdempotencyMismatch),
        (refusal(429, "rate-limited", retry_after=1), RateLimited),
        (refusal(503, "draining", retry_after=1), Draining),
    ],
)
async def test_a_refusal_that_stays_is_raised_at_once(answer: httpx2.Response, error: type[Exception]) -> None:
    answers = Answers(answer)
    async with house_of(answers) as house:
        with pytest.raises(error):
            await house.stop("a")


async def test_tries_are_bounded_and_their_delays_grow_up_to_a_limit(autojump_clock: MockClock) -> None:
    retry = Retry(attempts=6, min_s=1, max_s=4)
    answers = Answers(*[refused() for _ in range(6)])
    async with house_of(answers, retry) as house:
        with pytest.raises(Unreachable, match="enginehouse serve"):
            await house.health()
    gaps = [b - a for a, b in zip(answers.times, answers.times[1:], strict=False)]
    bounds = [(0.5, 1), (1, 2), (2, 4), (2, 4), (2, 4)]
    assert all(low <= gap <= high for gap, (low, high) in zip(gaps, bounds, strict=True)), gaps


async def test_retry_after_is_kept(autojump_clock: MockClock) -> None:
    answers = Answers(refusal(503, "overloaded", retry_after=3), httpx2.Response(200, json=RUN))
    async with house_of(answers) as house:
        await house.run("run_1")
    assert answers.times[1] - answers.times[0] == pytest.approx(3)


async def test_one_attempt_is_one(autojump_clock: MockClock) -> None:
    answers = Answers(refusal(503, "store-unavailable"))
    async with house_of(answers, Retry(attempts=1)) as house:
        with pytest.raises(StoreUnavailable):
            await house.health()


async def test_a_long_wait_is_asked_for_in_pieces_under_one_key(autojump_clock: MockClock) -> None:
    accepted = httpx2.Response(202, json={**RUN, "status": "running"})
    answers = Answers(accepted, accepted, httpx2.Response(200, json=RUN))

    class Slow(Answers):
        async def __call__(self, request: httpx2.Request) -> httpx2.Response:
            await trio.sleep(60 if len(self.answers) > 1 else 5)
            return await super().__call__(request)

    slow = Slow(*answers.answers)
    async with house_of(slow) as house:
        run, accepted_as = await house.submit("a", NewRun(input=1), wait_s=130)
    assert run.status == "completed"
    assert accepted_as.run_id == "run_1"
    assert [request.headers["prefer"] for request in slow.asked] == ["wait=60", "wait=60", "wait=10"]
    assert len(set(slow.keys())) == 1


async def test_a_wait_that_passes_gives_the_record_as_it_is(autojump_clock: MockClock) -> None:
    answers = Answers(httpx2.Response(202, json={**COMMAND, "state": "started"}))
    async with house_of(answers) as house:
        accepted, reached = await house.command("a", commands.Pause(), wait_s=0.5)
    assert reached is None
    assert (accepted.command_id, accepted.type, accepted.state) == ("cmd_1", "pause", "started")
    assert answers.asked[0].headers["prefer"] == "wait=1"


async def test_an_effect_that_was_reached_is_its_record(autojump_clock: MockClock) -> None:
    answers = Answers(httpx2.Response(200, json=COMMAND, headers={"idempotent-replayed": "true"}))
    async with house_of(answers) as house:
        accepted, reached = await house.command("a", commands.Pause(reason="lunch"), wait_s=5)
    assert reached is not None
    assert (reached.changed, accepted.replayed) == (True, True)
    assert answers.bodies()[0]["reason"] == "lunch"


async def test_ids_stay_in_their_place_of_the_path() -> None:
    answers = Answers(refusal(404, "not-found"))
    async with house_of(answers) as house:
        with pytest.raises(NotFound):
            await house.get("../runs?x=1#y")
    assert answers.asked[0].url.raw_path == b"/api/v1/engines/..%2Fruns%3Fx%3D1%23y"


async def test_members_that_are_new_are_ignored_also_inside() -> None:
    restart = {"policy": "transient", "max_restarts": 1, "window_s": 1, "backoff": {"new": 1}, "stable_s": 1, "new": 2}
    assert read(NewEngine, {"kind": "probe", "restart": restart, "new": 3}).restart.policy == "transient"


async def test_an_answer_that_is_not_understood_is_told() -> None:
    answers = Answers(httpx2.Response(200, json={"id": "x"}), httpx2.Response(200, text="<html>"))
    async with house_of(answers) as house:
        with pytest.raises(Unreachable, match="engine_id"):
            await house.run("run_1")
        with pytest.raises(Unreachable, match="not JSON"):
            await house.run("run_1")


async def test_many_are_disposed_of_and_one_failure_spares_nobody(autojump_clock: MockClock) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        engine = request.url.path.rpartition("/")[2]
        gone = {"id": engine, "uid": "u", "state": "disposed", "leaks": [], "dead_letters": 0}
        return refusal(409, "engine-busy", state="running") if engine == "b" else httpx2.Response(200, json=gone)

    answers = Answers(*[answer] * 3)
    async with house_of(answers) as house:
        results = await house.dispose_many(["a", "b", "c"], force=True)
    assert [(result.id, result.ok, result.state) for result in results] == [
        ("a", True, "disposed"),
        ("b", False, "running"),
        ("c", True, "disposed"),
    ]
    assert results[1].problem == {"slug": EngineBusy.slug, "detail": "So."}
    assert {request.url.query for request in answers.asked} == {b"force=true"}


async def test_a_piece_of_the_output_and_how_much_there_is() -> None:
    answers = Answers(
        httpx2.Response(206, content=b"lo", headers={"content-range": "bytes 3-4/5"}),
        httpx2.Response(200, content=b"hello"),
        refusal(416, "range-not-satisfiable", size_bytes=5),
    )
    async with house_of(answers) as house:
        assert await house.output("run_1", after=3, limit=10) == (b"lo", 5)
        assert await house.output("run_1", after=3, limit=1) == (b"l", 5)
        assert await house.output("run_1", after=5) == (b"", 5)
    assert answers.asked[0].headers["range"] == "bytes=3-12"


async def test_only_the_named_members_of_a_pool_are_sent() -> None:
    answers = Answers(refusal(404, "not-found"))
    async with house_of(answers) as house:
        with pytest.raises(NotFound):
            await house.patch_pool("p", PatchPool(idle_s=None), frozenset({"idle_s"}))
    assert answers.bodies() == [{"idle_s": None}]


async def test_output_is_followed_across_connections_until_the_run_has_ended(
    autojump_clock: MockClock,
) -> None:
    class Pieces(httpx2.AsyncByteStream):
        def __init__(self, *pieces: bytes | Exception) -> None:
            self.pieces = pieces

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self.pieces:
                await trio.sleep(1)
                if isinstance(piece, Exception):
                    raise piece
                yield piece

    running = {**RUN, "status": "running", "finished_at": None}
    answers = Answers(
        httpx2.Response(200, stream=Pieces(b"one ", cut())),
        refused(),
        httpx2.Response(200, stream=Pieces(b"two ")),  # the house closed, the run goes on
        httpx2.Response(200, json={**running, "output_bytes": 8}),
        httpx2.Response(200, stream=Pieces(b"three")),
        httpx2.Response(200, json={**RUN, "output_bytes": 13}),
    )
    async with house_of(answers) as house:
        text = b"".join([piece async for piece in house.follow("run_1")])
    assert text == b"one two three"
    asked = [request.url.query for request in answers.asked if request.url.path.endswith("/output")]
    assert asked == [b"after=%d&follow=true" % n for n in (0, 4, 4, 8)]


async def test_following_goes_on_where_it_was_cancelled(autojump_clock: MockClock) -> None:
    class Slow(httpx2.AsyncByteStream):
        def __init__(self, text: bytes, then_s: float) -> None:
            self.text, self.then_s = text, then_s

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield self.text
            await trio.sleep(self.then_s)

    answers = Answers(
        httpx2.Response(200, stream=Slow(b"one ", 10)),
        httpx2.Response(200, stream=Slow(b"two", 0)),
        httpx2.Response(200, json={**RUN, "output_bytes": 7}),
    )
    async with house_of(answers) as house, aclosing(house.follow("run_1")) as pieces:
        assert await anext(pieces) == b"one "
        with trio.move_on_after(1) as scope:
            await anext(pieces)
        assert scope.cancelled_caught
        assert await anext(pieces) == b"two"
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
    assert [request.url.query for request in answers.asked[:2]] == [b"after=0&follow=true", b"after=4&follow=true"]


async def test_the_errors_of_the_block_leave_it_bare() -> None:
    with pytest.raises(KeyError):
        async with open_remote("http://127.0.0.1:9"):
            raise KeyError("mine")


def test_parts_of_a_path_are_quoted() -> None:
    assert path("engines", "a b/ü") == "/engines/a%20b%2F%C3%BC"
