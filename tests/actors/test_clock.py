from __future__ import annotations

import trio
from trio.testing import MockClock

from actors.clock import PausableClock


async def test_a_scope_ends_after_its_seconds(autojump_clock: MockClock) -> None:
    with PausableClock().scope(3) as scope:
        await trio.sleep(1000)
    assert (trio.current_time(), scope.cancelled_caught) == (3, True)


async def test_time_stands_still_while_paused(autojump_clock: MockClock) -> None:
    clock = PausableClock()
    await trio.sleep(2)
    clock.pause()
    await trio.sleep(10)
    assert (clock.paused, clock.time()) == (True, 2)
    clock.resume()
    await trio.sleep(3)
    assert (clock.paused, clock.time()) == (False, 5)


async def test_a_scope_goes_on_with_what_it_had_left(autojump_clock: MockClock) -> None:
    clock = PausableClock()

    async def pause() -> None:
        for at in (1, 20):
            await trio.sleep_until(at)
            clock.pause()
            await trio.sleep(10)
            clock.resume()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pause)
        with clock.scope(15):
            await trio.sleep(1000)
        assert trio.current_time() == 35


async def test_a_scope_that_begins_while_paused_begins_to_run_at_the_release(autojump_clock: MockClock) -> None:
    clock = PausableClock()
    clock.pause()

    async def resume() -> None:
        await trio.sleep(10)
        clock.resume()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resume)
        with clock.scope(5):
            await trio.sleep(1000)
        assert trio.current_time() == 15


async def test_pause_and_resume_are_idempotent(autojump_clock: MockClock) -> None:
    clock = PausableClock()
    clock.resume()
    for _ in range(2):
        clock.pause()
        await trio.sleep(5)
    for _ in range(2):
        clock.resume()
        await trio.sleep(5)
    assert clock.time() == 10


async def test_a_scope_that_was_left_is_forgotten(autojump_clock: MockClock) -> None:
    clock = PausableClock()
    with clock.scope(1) as scope:
        pass
    clock.pause()
    assert scope.deadline == 1
