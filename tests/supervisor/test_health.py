"""Health is measured: each check turns when what it measures does."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest

from actors import CannotStart, Context, Engine
from supervisor import NewEngine, open_supervisor
from supervisor.health import FULL_BYTES, LOW_BYTES, worst


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Broken(Engine):
    kind = "broken"

    async def on_start(self, ctx: Context) -> None:
        raise CannotStart("it is not there")


async def test_a_house_that_is_well_says_what_it_measured() -> None:
    async with open_supervisor() as house:
        health = await house.health()
        assert health.status == "healthy"
        assert set(health.checks) == {"store", "disk", "event_loop", "engines", "requests"}
        assert health.checks["disk"]["free_bytes"] > 0
        assert health.checks["store"]["read_s"] >= 0


@pytest.mark.parametrize("free, status", [(LOW_BYTES - 1, "degraded"), (FULL_BYTES - 1, "unhealthy")])
async def test_a_disk_that_fills_up_is_seen(free: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_supervisor() as house:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 40, 0, free))
        health = await house.health()
        assert (health.status, health.checks["disk"]["status"]) == (status, status)


async def test_a_failed_engine_degrades_the_house() -> None:
    async with open_supervisor(kinds=[Broken]) as house:
        await house.spawn(NewEngine(kind="broken", id="b"))
        await house.supervisor.watch(house.supervisor.ids["b"], lambda view: view.state == "failed")
        health = await house.health()
        assert health.checks["engines"] == {"status": "degraded", "failed": 1}


def test_the_worst_check_is_the_status() -> None:
    assert worst({"a": {"status": "healthy"}, "b": {"status": "degraded"}}) == "degraded"
