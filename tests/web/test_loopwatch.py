"""A blocked event loop is noticed from outside of it. Real time: it is about a thread and a clock."""

import threading
from functools import partial

import trio
from structlog.testing import capture_logs

from web.loopwatch import watch_loop


def block_the_loop() -> None:
    threading.Event().wait(0.3)


async def test_a_blocked_loop_is_reported_once_with_the_place_that_blocks_it() -> None:
    with capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_loop, 0.1)
            await trio.sleep(0.05)
            block_the_loop()
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    blocked, over = logged
    assert blocked["event"] == "the event loop is blocked"
    assert "block_the_loop" in blocked["stack"]
    assert over["event"] == "the event loop goes on"
    assert 0.2 < over["blocked_s"] < 5


async def test_each_beat_says_how_late_it_was() -> None:
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(watch_loop, 0.1, late=late.append))
        await trio.sleep(0.01)
        block_the_loop()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert max(late) > 0.2
    assert min(late) >= 0
    assert len(late) > 1


async def test_a_loop_that_runs_is_not_reported() -> None:
    with capture_logs() as logged:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_loop, 0.5)
            for _ in range(10):
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    assert logged == []
