"""A house in a few numbers by pool: what they are made of, and that they hold while engines come and go."""

from typing import Any

import pytest
import trio

from supervisor import NewPool
from supervisor import summary as module
from tests.supervisor.houses import KINDS, a_house, run_until, spawn, submit


async def test_each_pool_is_counted_apart(autojump_clock: Any) -> None:
    async with a_house(kinds=KINDS, threads=False) as house:
        await house.create_pool(NewPool(id="web"))
        await spawn(house, "a", pool="web")
        await spawn(house, "b")
        run = await submit(house, "a", 100)
        await run_until(house, run, "running")
        await submit(house, "a", 100)
        await trio.sleep(7)
        found = await house.summary()
    web, default = found.pools["web"], found.pools["default"]
    assert (web.accepted, web.queued, web.in_hand, web.oldest_age_s) == (2, 1, 1, 7)
    assert (dict(web.engines), dict(web.runs)) == ({("sleeper", "running"): 1}, {"running": 1, "queued": 1})
    assert (default.accepted, default.oldest_age_s, default.unbalanced, dict(default.runs)) == (0, 0, 0, {})
    assert found.folded == found.store.rows


async def test_what_a_disposed_engine_counted_stays_also_while_it_is_being_counted(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)  # others run between any two engines
    async with a_house(kinds=KINDS, threads=False) as house:
        for name in ("a", "b", "c"):
            await spawn(house, name)
            await run_until(house, await submit(house, name, 0), "ended")
        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(house.dispose, name)
            while (found := (await house.summary()).pools["default"]).engines:
                assert (found.accepted, found.handled) == (3, 3)
        assert ((found := (await house.summary()).pools["default"]).accepted, found.handled) == (3, 3)
