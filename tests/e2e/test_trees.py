"""Process trees over HTTP: stubborn ones are disposed of, and a killed daemon leaves nothing behind."""

from __future__ import annotations

from contextlib import aclosing, suppress
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from protocol.commands import Start
from supervisor import NewEngine, NewRun
from tests.e2e.daemons import processes_with, running
from web.client import RemoteHouse

STUBBORN = 50
GONE_S = 2.0
THREADS = 30
"""More than the daemon's pools may have, and fewer than the trees that one round starts."""

TREES = {
    "ignores TERM": "trap '' TERM INT HUP; while :; do sleep 1; done",
    "another session": "setsid sleep 1000 & setsid setsid sleep 1000 & wait",
    "double fork": "(setsid sh -c 'trap \"\" TERM; (sleep 1000 &) ; sleep 1000' &) ; sleep 1000",
    "three deep": "sh -c 'sh -c \"sleep 1000 & wait\" & wait' & wait",
    "cleared environment": "env -i setsid sleep 1000 & env -i sh -c 'trap \"\" TERM; while :; do sleep 1; done'",
}


def program(tree: str) -> dict[str, object]:
    script = f"echo up; {TREES[tree]}"
    return {"argv": ["/bin/sh", "-c", script], "protocol": "none", "ready": {"line": "up"}}


async def gone(mark: str) -> None:
    """Every process with the mark ends in time; looked at as often as the loop allows."""
    with trio.fail_after(GONE_S):
        while processes_with(mark):  # noqa: ASYNC110 - the kernel tells nobody when somebody else's child ends
            await trio.sleep(0.05)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.torture)])
async def test_50_stubborn_trees_are_disposed_of_without_a_survivor(tmp_path: Path, rounds: int) -> None:
    async with running(tmp_path / "state") as daemon, daemon.client() as house:
        for _ in range(rounds):
            await dispose_of_50(house)
        assert await daemon.stop() == 0


async def dispose_of_50(house: RemoteHouse) -> None:
    mark = f"mark-{uuid4().hex}"
    names = [f"tree-{number}" for number in range(STUBBORN)]

    async def spawn(number: int) -> None:
        config = program(list(TREES)[number % len(TREES)]) | {"env": {"MARK": mark}}
        await house.spawn(NewEngine(kind="process", id=names[number], config=config))
        await house.command(names[number], Start(), wait_s=30)

    async with trio.open_nursery() as nursery:
        for number in range(STUBBORN):
            nursery.start_soon(spawn, number)
    assert len(processes_with(mark)) >= STUBBORN
    outcomes = await house.dispose_many(names, force=True, grace_s=0.3)
    assert [outcome.state for outcome in outcomes] == ["disposed"] * STUBBORN
    await gone(mark)
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(no_leak, house, name)


async def no_leak(house: RemoteHouse, name: str) -> None:
    assert (await house.dispose(name)).leaks == []


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.torture)])
async def test_spawns_and_disposes_leave_the_daemon_as_it_was(tmp_path: Path, rounds: int) -> None:
    async with running(tmp_path / "state") as daemon:

        async def once() -> None:
            async with daemon.client() as house:
                await dispose_of_50(house)

        await once()  # what is made once is made now
        before = descriptors(daemon.pid)
        with trio.move_on_after(5):  # for the connections of a client that has left
            while True:
                await trio.sleep(0.5)
                before = min(before, descriptors(daemon.pid))
        for _ in range(rounds):
            await once()
        with trio.fail_after(30):
            while descriptors(daemon.pid) > before:  # noqa: ASYNC110 - the kernel tells nobody
                await trio.sleep(0.1)
        assert children(daemon.pid) == ["house-guardian"]
        assert threads(daemon.pid) <= THREADS


def descriptors(pid: int) -> int:
    """How many the daemon has, without its journal's: readers of that are opened when they are needed, and kept."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found += "journal.db" not in str(entry.readlink())
    return found


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    pids = [child for task in tasks for child in (task / "children").read_text().split()]
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in pids]


async def test_a_killed_daemon_leaves_no_process_of_a_three_deep_tree(tmp_path: Path) -> None:
    mark = f"mark-{uuid4().hex}"
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            for number, tree in enumerate(TREES):
                config = program(tree) | {"env": {"MARK": mark}}
                await house.spawn(NewEngine(kind="process", id=f"tree-{number}", config=config))
                await house.command(f"tree-{number}", Start(), wait_s=30)
        assert len(processes_with(mark)) >= len(TREES)
        await daemon.kill()
        await gone(mark)


async def test_after_a_kill_there_are_no_doubles(tmp_path: Path) -> None:
    mark = f"mark-{uuid4().hex}"
    async with running(tmp_path / "state") as daemon:
        config = {"argv": ["/bin/sh", "-c", "echo up; exec sleep 1000"], "protocol": "none", "env": {"MARK": mark}}
        config["ready"] = {"line": "up"}
        async with daemon.client() as house:
            await house.spawn(NewEngine(kind="process", id="one", config=config))
            await house.command("one", Start(), wait_s=30)
        (before,) = processes_with(mark)
        await daemon.kill()
        await daemon.start()
        async with daemon.client() as house:
            with trio.fail_after(30):
                while (await house.get("one")).state != "running":
                    await house.event_page(wait_s=1)
            (after,) = processes_with(mark)
            assert after != before
            await house.dispose("one", force=True, grace_s=1)
        await gone(mark)


async def test_a_shell_run_is_paused_in_the_middle_and_goes_on_at_the_same_point(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as daemon, daemon.client() as house:
        await house.spawn(NewEngine(kind="shell", id="sh", config={"cwd": str(tmp_path)}))
        run, _ = await house.submit(
            "sh", NewRun(input="for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done; echo $$ >pid")
        )
        await output_of(house, run.id, b"2\n")
        await house.pause("sh", wait_s=30)
        before, size = await house.output(run.id)
        await house.event_page(after=None, wait_s=1)
        assert (await house.output(run.id))[1] == size, "frozen: not a byte comes"
        assert before.startswith(b"1\n2\n")
        await house.resume("sh")
        await output_of(house, run.id, b"6\n")
        with trio.fail_after(30):
            while (done := await house.run(run.id)).status == "running":
                await house.event_page(wait_s=1)
        assert done.status == "completed"
        assert done.attempts == 1
        assert done.result["output"].split() == ["1", "2", "3", "4", "5", "6"]
        assert (await house.dispose("sh")).leaks == []


async def output_of(house: RemoteHouse, run: str, until: bytes) -> None:
    said = b""
    with trio.fail_after(30):
        async with aclosing(house.follow(run)) as parts:
            async for part in parts:
                said += part
                if until in said:
                    return
