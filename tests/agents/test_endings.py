"""However an agent's engine ends, in the middle of a command that hides from it, nothing is left after two seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from actors.processes import linux
from protocol.commands import Stop
from protocol.specs import OnInterrupt
from tests.agents.cast import Actor
from tests.agents.stage import ENGINE, GONE_S, PATIENCE_S, Stage, on_stage
from tests.agents.table import ENDINGS, Table
from tests.models.script import Say

pytestmark = pytest.mark.agents

HIDING = "(setsid sleep 1000 &); setsid sh -c 'trap \"\" TERM; sleep 1001' & sleep 1002"
"""A daemon by double fork, one that ignores SIGTERM in a session of its own, and one that stays."""


async def cancel(stage: Stage, run: str) -> None:
    """The agent lives on; what of the command outlives the turn ends with the engine, which is then disposed of."""
    await stage.house.cancel(run)
    assert (await stage.ended(run)).status == "cancelled"
    assert (await stage.house.dispose(ENGINE)).leaks == []


async def stop(stage: Stage, run: str) -> None:
    await stage.house.command(ENGINE, Stop(grace_s=2), wait_s=PATIENCE_S)
    assert await stage.state() == "stopped"


async def segv(stage: Stage, run: str) -> None:
    await struck(stage, run, signal.SIGSEGV)


async def kill(stage: Stage, run: str) -> None:
    await struck(stage, run, signal.SIGKILL)


async def struck(stage: Stage, run: str, signum: signal.Signals) -> None:
    """The agent itself is killed; its engine comes back by itself, in the next incarnation."""
    agent = (await stage.processes())[0]
    os.kill(agent.pid, signum)
    assert (await stage.ended(run)).status == "failed"
    assert (await stage.house.get(ENGINE)).incarnation <= 2


async def daemon_killed(stage: Stage, run: str) -> None:
    await stage.daemon.kill()


async def dispose(stage: Stage, run: str) -> None:
    assert (await stage.house.dispose(ENGINE, force=True)).leaks == []


HOW: dict[str, Callable[[Stage, str], Awaitable[None]]] = dict(
    zip(ENDINGS, (cancel, stop, segv, kill, daemon_killed, dispose), strict=True)
)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_ending_leaves_nothing(
    ending: str, actor: Actor, programs: Path, table: Table, tmp_path: Path
) -> None:
    async with on_stage(actor, tmp_path) as stage:
        await stage.begin(programs, on_interrupt=OnInterrupt.FAIL)
        stage.endpoint.reply(Say(actor.shell(HIDING)), "It was done.", when="HIDE", tools=True)
        run = await stage.submit("HIDE.")
        await stage.decide("allow_once")
        hidden: list[linux.Stat] = []
        with trio.fail_after(PATIENCE_S):
            while sum(stat.name == "sleep" for stat in hidden) < 3:
                hidden = [stat for row in await stage.processes() if (stat := linux.read(row.pid)) is not None]
                await stage.house.event_page(wait_s=0.1)
        await HOW[ending](stage, run)
        with trio.move_on_after(GONE_S):
            while living(hidden):  # noqa: ASYNC110 - the kernel tells nobody when somebody else's child ends
                await trio.sleep(0.05)
        left = living(hidden)
        table.survivors[actor.preset][ending] = len(left)
        assert left == []


def living(stats: list[linux.Stat]) -> list[int]:
    """Those that are still the processes that they were."""
    now = [linux.read(stat.pid) for stat in stats]
    return [
        stat.pid
        for stat, found in zip(stats, now, strict=True)
        if found is not None and found.alive and found.identity == stat.identity
    ]
