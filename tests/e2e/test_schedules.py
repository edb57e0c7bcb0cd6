"""Schedules of a real daemon that is killed again and again: exactly once for each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from protocol.times import epoch_ms
from supervisor import NewEngine, SqliteStore
from supervisor.house import Filter
from tests.e2e.daemons import running
from web.client import RemoteHouse


async def acted(house: RemoteHouse) -> None:
    """Until it has acted once more."""
    async with house.events(Filter(types=("run.queued",))) as events:
        with trio.fail_after(60):
            await events.receive()


async def test_a_schedule_acts_exactly_once_for_each_time_through_kills(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="probe", id="e"))
            schedule = {
                "id": "tick", "every_s": 1.0, "engine": "e", "run": {"input": "tick"}, "overlap": "enqueue",
                "catch_up": "all",
            }  # fmt: skip
            await house.call("POST", "schedules", body=schedule)
        for _ in range(2):
            async with daemon.client() as house:
                await acted(house)
            await daemon.kill()
            await daemon.start()  # which takes longer than from one time to the next
        async with daemon.client() as house:
            await acted(house)
            await house.call("PATCH", "schedules", "tick", body={"enabled": False})
            shown: Any = await house.call("GET", "schedules", "tick")
        assert await daemon.stop() == 0
    store = SqliteStore(tmp_path / "state" / "journal.db")
    await store.open()
    rows = await store.read(after=0, limit=100_000)
    fired = [
        row for row in rows if row.type == "run.queued" and row.principal == "schedule:tick" and "input" in row.data
    ]
    due = (epoch_ms(shown["last"]["due_at"]) - epoch_ms(shown["created_at"])) / 1000
    assert len(fired) == shown["fired"] == round(due)
    assert (shown["missed"], shown["refused"]) == (0, 0)
    assert len(fired) >= 3
    await store.close()
