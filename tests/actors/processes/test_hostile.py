"""Hostile programs and a tree alone: whatever they do, nothing of them is left, and a freeze holds them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from actors.children import ChildPolicy, ControlGroups, ResourceLimits
from actors.processes import Process, Tree, cgroup, hold_guardian
from tests.e2e import hostile

pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")
DOUBLE = "kills its keeper and the guardian"
GONE_S = 2.0


BUSY = ("swarm", "chain", "bomb", "undying")


async def begin(tree: Tree, name: str, mark: int, cwd: Path) -> Process:
    with trio.fail_after(30):
        process = await tree.spawn(hostile.argv(name), cwd=cwd, limits=ResourceLimits(file_bytes=mark))
        heard = b""
        while b"up" not in heard:
            heard += await process.stdout.receive_some()
    return process


async def gone(name: str, mark: int) -> None:
    with trio.move_on_after(GONE_S):
        while hostile.survivors(mark):  # noqa: ASYNC110 - the kernel tells nobody when somebody else's child ends
            await trio.sleep(0.02)
    assert hostile.survivors(mark) == [], name


@pytest.mark.parametrize("wall", [True, False], ids=["walled", "unwalled"])
async def test_no_hostile_program_outlives_the_end_of_its_tree(
    house: str, groups: ControlGroups | None, tmp_path: Path, wall: bool
) -> None:
    # Without a wall and without a group nothing in the kernel finds who killed both helpers and cleared his marker.
    names = [name for name in hostile.PROGRAMS if name != DOUBLE or wall or groups is not None]

    begun: list[str] = []
    others = trio.Event()

    async def one(name: str) -> None:
        mark = hostile.mark()
        tree = Tree(f"{house}.{mark}.1", ChildPolicy(wall=wall, groups=groups))
        if name == DOUBLE:  # whose deed fails a start that is under way elsewhere
            await others.wait()
        process = await begin(tree, name, mark, tmp_path)
        begun.append(name)
        if len(begun) == len(names) - (DOUBLE in names):
            others.set()
        with trio.fail_after(0.5 + GONE_S):
            assert await tree.end(0.5) == [], name
        await gone(name, mark)
        assert groups is None or not cgroup.has(groups.path(tree.marker), "cgroup.procs"), name
        await process.aclose()

    async with hold_guardian(), trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)


async def test_nothing_of_a_busy_program_runs_while_it_is_frozen(
    house: str, groups: ControlGroups | None, tmp_path: Path
) -> None:
    async def one(name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        ticks = folder / "ticks"
        mark = hostile.mark()
        tree = Tree(f"{house}.{mark}.1", ChildPolicy(groups=groups))
        process = await begin(tree, name, mark, folder)
        for _ in range(5):
            await grows(ticks)
            with trio.fail_after(30):
                await tree.freeze()
            before, everyone = size(ticks), hostile.survivors(mark)
            await trio.sleep(0.1)
            assert size(ticks) == before, f"{name} goes on"
            assert hostile.survivors(mark) == everyone, f"{name} forks"
            tree.thaw()
        await grows(ticks)
        assert await tree.end(0) == []
        await process.aclose()

    async with hold_guardian(), trio.open_nursery() as nursery:
        for name in BUSY:
            nursery.start_soon(one, name)


async def grows(file: Path) -> None:
    before = size(file)
    with trio.fail_after(10):
        while size(file) <= before:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


async def test_a_walled_program_can_do_nothing_to_its_helpers(
    tree: Tree, words: Callable[[Process, int], Awaitable[list[str]]]
) -> None:
    script = "exec 2>/dev/null; kill -0 $PPID || echo spared; kill -0 $$ && echo own; exec sleep 1000"
    process = await tree.spawn(["sh", "-c", script])
    assert await words(process, 2) == ["spared", "own"]
    await process.aclose()


async def test_without_a_wall_a_program_reaches_whatever_its_user_may(
    house: str, words: Callable[[Process, int], Awaitable[list[str]]]
) -> None:
    tree = Tree(f"{house}.engine.1", ChildPolicy(wall=False))
    process = await tree.spawn(["sh", "-c", "kill -0 $PPID && echo reached; exec sleep 1000"])
    assert await words(process, 1) == ["reached"]
    assert await tree.end(0) == []
    await process.aclose()
