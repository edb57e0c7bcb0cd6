"""Hostile programs in a real daemon, and every way in which it may end: nothing of them is left after two seconds."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.children import ControlGroups
from actors.processes import cgroup, claim
from protocol.commands import Cancel, Stop
from protocol.specs import Policy, Restart
from supervisor import NewEngine, NewRun
from tests.e2e import hostile
from tests.e2e.daemons import Daemon, running
from web.client import RemoteHouse
from web.places import house_name

GONE_S = 2.0
GRACE_S = 0.3
TORTURE = pytest.mark.torture
CASES = [
    # With control groups, where this machine gives us some.
    ("stop", "auto"), ("dispose", "auto"), ("crash", "auto"), ("kill -9", "auto"),
    # Without any.
    ("dispose", "none"), ("kill -9", "none"),
    pytest.param("stop", "none", marks=TORTURE), pytest.param("crash", "none", marks=TORTURE),
]  # fmt: skip

Ending = Callable[[Daemon, RemoteHouse, list[str]], Awaitable[None]]


async def stop(daemon: Daemon, house: RemoteHouse, engines: list[str]) -> None:
    await each(engines, lambda engine: house.command(engine, Stop(grace_s=GRACE_S), wait_s=30))


async def dispose(daemon: Daemon, house: RemoteHouse, engines: list[str]) -> None:
    outcomes = await house.dispose_many(engines, force=True, grace_s=GRACE_S)
    assert {outcome.state for outcome in outcomes} == {"disposed"}
    for engine in engines:
        assert (await house.dispose(engine)).leaks == []


async def crash(daemon: Daemon, house: RemoteHouse, engines: list[str]) -> None:
    """The program that the engine is dies, and what it started does not; two seconds are left to those by the house."""
    for engine in engines:
        oldest = sorted(await house.processes(engine), key=lambda process: process.started_at)[:1]  # pids begin anew
        for process in oldest:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    await each(engines, lambda engine: until(house, engine, "failed", "stopped"))


async def kill_the_daemon(daemon: Daemon, house: RemoteHouse, engines: list[str]) -> None:
    await daemon.kill()


ENDINGS: dict[str, Ending] = {"stop": stop, "dispose": dispose, "crash": crash, "kill -9": kill_the_daemon}


async def each(engines: Iterable[str], do: Callable[[str], Awaitable[Any]]) -> None:
    async def one(engine: str) -> None:
        await do(engine)

    async with trio.open_nursery() as nursery:
        for engine in engines:
            nursery.start_soon(one, engine)


async def until(house: RemoteHouse, engine: str, *states: str) -> None:
    with trio.fail_after(30):
        while (await house.get(engine)).state not in states:  # noqa: ASYNC110 - a deadline is all that is wanted here
            await trio.sleep(0.05)


async def gone(marks: dict[str, int]) -> None:
    with trio.move_on_after(GONE_S):
        while any(map(hostile.survivors, marks.values())):  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(0.05)
    assert {name: left for name, mark in marks.items() if (left := hostile.survivors(mark))} == {}


@asynccontextmanager
async def house_of(tmp_path: Path, mode: str) -> AsyncIterator[tuple[Daemon, RemoteHouse]]:
    env = {"ENGINEHOUSE_CHILDREN__CONTROL_GROUPS": mode}
    async with running(tmp_path / "state", env=env) as daemon, daemon.client() as house:
        yield daemon, house


def groups_of(daemon: Daemon) -> list[str]:
    """The control groups that are left of its trees."""
    groups = claim()
    return cgroup.beginning(groups.path(house_name(daemon.state))) if isinstance(groups, ControlGroups) else []


async def spawn_all(house: RemoteHouse, folder: Path) -> dict[str, int]:
    """One engine for each hostile program; their names and marks."""
    marks = {name.replace(" ", "-"): hostile.mark() for name in hostile.PROGRAMS}

    async def spawn(engine: str) -> None:
        config = {
            "argv": hostile.argv(engine.replace("-", " ")), "cwd": str(folder), "protocol": "none",
            "ready": {"line": "up"}, "limits": {"file_bytes": marks[engine]},
        }  # fmt: skip
        await house.spawn(NewEngine(kind="process", id=engine, config=config, restart=Restart(policy=Policy.TEMPORARY)))

    await each(marks, spawn)
    ends_itself = {"holds-the-pipe"}
    await each(marks.keys() - ends_itself, lambda engine: until(house, engine, "running"))
    return marks


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=TORTURE)])
@pytest.mark.parametrize("ending, mode", CASES)
async def test_nothing_hostile_outlives(tmp_path: Path, ending: str, mode: str, rounds: int) -> None:
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with house_of(folder, mode) as (daemon, house):
            marks = await spawn_all(house, folder)
            await ENDINGS[ending](daemon, house, list(marks))
            await gone(marks)
            assert groups_of(daemon) == []


@pytest.mark.parametrize("mode", ["none", pytest.param("auto", marks=TORTURE)])
async def test_a_cancelled_command_leaves_nothing_hostile(tmp_path: Path, mode: str) -> None:
    async with house_of(tmp_path, mode) as (_, house):
        # What ends by itself may leave jobs: one that only holds the pipe, and those that kill the shell above them.
        names = [name for name in hostile.PROGRAMS if name != "holds the pipe" and not name.startswith("kills")]
        marks = {name.replace(" ", "-"): hostile.mark() for name in names}

        async def begin_and_cancel(engine: str) -> None:
            config = {"cwd": str(tmp_path), "limits": {"file_bytes": marks[engine]}}
            await house.spawn(NewEngine(kind="shell", id=engine, config=config))
            kept, _ = await house.submit(engine, NewRun(input="sleep 1000 & echo $!"), wait_s=30)
            command = shlex.join(hostile.argv(engine.replace("-", " ")))
            run, _ = await house.submit(engine, NewRun(input=command))
            with trio.fail_after(30):
                while b"up" not in (await house.output(run.id))[0]:  # noqa: ASYNC110 - a deadline is all that is wanted
                    await trio.sleep(0.05)
            await house.command(engine, Cancel(run_id=run.id), wait_s=30)
            with trio.fail_after(30):
                while (await house.run(run.id)).status in ("running", "waiting"):  # noqa: ASYNC110 - the same
                    await trio.sleep(0.05)
            ended.append(engine)
            if (await house.run(kept.id)).status == "completed":
                jobs[engine] = int((await house.run(kept.id)).result["output"])

        ended: list[str] = []
        jobs: dict[str, int] = {}
        await each(marks, begin_and_cancel)
        with trio.move_on_after(GONE_S):
            while strangers(marks, jobs):  # noqa: ASYNC110 - the kernel tells nobody
                await trio.sleep(0.05)
        assert strangers(marks, jobs) == {}
        assert len(jobs) == len(marks)


def strangers(marks: dict[str, int], jobs: dict[str, int]) -> dict[str, list[int]]:
    """Who is there beside the shell and the job of an earlier command: two, where the shell lives on."""
    left = {engine: hostile.survivors(mark) for engine, mark in marks.items()}
    return {engine: pids for engine, pids in left.items() if len(pids) > 2}
