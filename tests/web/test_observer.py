"""What the daemon hears of its house: lines for what somebody should look at, and whose code is at work."""

from typing import Any

import trio
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from actors import Engine, RunContext, RunInput
from protocol.specs import Backoff, OnInterrupt, Restart
from supervisor import EmbeddedHouse, NewEngine, NewRun, open_supervisor
from web.metrics import EngineCounts
from web.observer import TEXT_CHARS, HouseObserver
from web.traces import Traces

ONCE = Restart(max_restarts=1, window_s=60, backoff=Backoff(min_s=2, max_s=2, factor=1, jitter=0), stable_s=30)


class Teller(Engine):
    """Its runs tell which context variables they see; or crash, shield or idle, as they are told."""

    kind = "teller"

    async def on_signal(self, ctx: Any, name: str, payload: Any) -> Any:
        return dict(get_contextvars())

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        if run.input == "crash":
            raise ValueError("x" * 5000)
        if run.input == "shield":
            with trio.CancelScope(shield=True):
                await trio.sleep(100)
        if run.input == "idle":
            await trio.sleep(100)
        return dict(get_contextvars())


def house() -> Any:
    return open_supervisor(kinds=[Teller], observer=HouseObserver(EngineCounts(), Traces()), threads=False, grace_s=1)


async def spawned(open_house: EmbeddedHouse, **spec: Any) -> None:
    await open_house.spawn(NewEngine(kind="teller", id="a", **spec))


async def test_an_engines_own_code_is_known_and_nothing_of_a_request_lives_on(autojump_clock: Any) -> None:
    async with house() as one:
        with bound_contextvars(correlation_id="of the request"):
            await spawned(one)
            run, _ = await one.submit("a", NewRun(input="tell"), wait_s=5)
        assert run.result == {"engine_id": "a", "pool": "default", "run_id": run.id}
        with bound_contextvars(correlation_id="of another"):
            assert await one.ref("a").ask("tell") == {"engine_id": "a", "pool": "default"}
        assert get_contextvars() == {}


async def test_a_crash_and_the_end_of_the_patience_are_told(autojump_clock: Any) -> None:
    async with house() as one:
        await spawned(one, restart=ONCE, on_interrupt=OnInterrupt.RETRY)
        with capture_logs() as logged:
            await one.submit("a", NewRun(input="crash"))
            await trio.sleep(10)
    crashed, given_up = logged
    told = {name: crashed.pop(name) for name in ("engine_id", "pool", "incarnation", "delay_s", "log_level", "event")}
    assert told == {
        "engine_id": "a", "pool": "default", "incarnation": 1, "delay_s": 2, "log_level": "warning",
        "event": "an engine crashed",
    }  # fmt: skip
    assert crashed["error"].startswith("ValueError: xxx")
    assert len(crashed["error"]) == TEXT_CHARS
    assert (given_up["event"], given_up["log_level"], given_up["incarnation"]) == ("an engine was given up", "error", 2)


async def test_a_stall_is_told_with_its_run_and_a_leak_with_what_it_is(autojump_clock: Any) -> None:
    async with house() as one:
        await spawned(one, stall_s=5.0)
        with capture_logs() as logged:
            run, _ = await one.submit("a", NewRun(input="shield"))
            await trio.sleep(20)
            await one.dispose("a", force=True, grace_s=0)
    stalled, left = logged
    assert (stalled["event"], stalled["run_id"], stalled["for_s"]) == ("a run makes no progress", run.id, 5)
    assert (left["event"], left["leaks"][0]["what"]) == ("an engine left something behind", "task")


async def test_an_ordinary_life_is_silent(autojump_clock: Any) -> None:
    async with house() as one:
        with capture_logs() as logged:
            await spawned(one)
            for _ in range(5):
                await one.submit("a", NewRun(input="tell"), wait_s=5)
            await one.dispose("a")
    assert logged == []
