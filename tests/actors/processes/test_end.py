"""Ending a tree: provably empty, whatever its processes do about it."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from actors.processes import Process, SpawnFailed, Tree
from actors.processes.guardian import guardian

Words = Callable[[Process, int], Awaitable[list[str]]]
Exists = Callable[[str], bool]
pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")


async def test_sigterm_is_enough_for_the_willing(tree: Tree) -> None:
    process = await tree.spawn(["sleep", "1000"])
    with trio.fail_after(5):
        assert await tree.end(60) == []
    assert process.returncode == -signal.SIGTERM
    await process.aclose()


async def test_what_ignores_sigterm_is_killed_after_the_grace(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 1000"])
    await words(process, 1)
    before = trio.current_time()
    with trio.fail_after(5):
        assert await tree.end(0.3) == []
    assert 0.3 <= trio.current_time() - before < 2.3
    assert process.returncode == -signal.SIGKILL
    await process.aclose()


async def test_a_program_may_use_its_grace(tree: Tree, words: Words, tmp_path: Path) -> None:
    process = await tree.spawn(["sh", "-c", "trap 'echo bye > note; exit 5' TERM; echo ready; read line"], cwd=tmp_path)
    await words(process, 1)
    with trio.fail_after(5):
        assert await tree.end(60) == []
    assert (process.returncode, (tmp_path / "note").read_text()) == (5, "bye\n")
    await process.aclose()


async def test_an_orphan_that_was_forked_after_sigterm_gets_one_too(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "trap 'sleep 1000 & exit 0' TERM; echo ready; read line"])
    await words(process, 1)
    with trio.fail_after(5):
        assert await tree.end(60) == []
    await process.aclose()


async def test_orphans_in_their_own_session_with_no_environment_are_ended_too(
    tree: Tree, stubborn: list[str], words: Words, exists: Exists
) -> None:
    process = await tree.spawn(stubborn)
    pids = await words(process, 6)
    assert {str(known.pid) for known in tree.processes()} >= set(pids)
    with trio.fail_after(5):
        assert await tree.end(0.1) == []
    assert [pid for pid in pids if exists(pid)] == []
    await process.aclose()


async def test_a_storm_of_forks_is_ended(tree: Tree, words: Words, tmp_path: Path) -> None:
    # Forty lines of descent: each member leaves a successor in a new session, then dies. None minds SIGTERM.
    storm = tmp_path / "storm"
    storm.write_text('trap "" TERM\n(setsid sh "$0" &)\nexec sleep 0.02\n')
    start = 'trap "" TERM; for i in $(seq 40); do sh "$0" & done; echo ready; wait; sleep 1000'
    process = await tree.spawn(["sh", "-c", start, str(storm)])
    await words(process, 1)
    with trio.fail_after(5):
        assert await tree.end(0.2) == []
    assert tree.processes() == []
    await process.aclose()


async def test_a_tree_that_started_nothing_ends_without_a_helper(house: str) -> None:
    tree = Tree(f"{house}.idle.1")
    assert guardian.pid is None
    assert tree.processes() == []
    await tree.freeze()
    tree.thaw()
    assert await tree.end(60) == []
    assert guardian.pid is None


async def test_ending_again_is_the_same_end_and_nothing_starts_any_more(tree: Tree) -> None:
    process = await tree.spawn(["sleep", "1000"])
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(tree.end, 60)
        assert await tree.end(60) == []
    with pytest.raises(SpawnFailed, match="ended"):
        await tree.spawn(["true"])
    await process.aclose()


async def test_cancellation_does_not_cut_the_end_short(
    tree: Tree, stubborn: list[str], words: Words, exists: Exists
) -> None:
    process = await tree.spawn(stubborn)
    pids = await words(process, 6)
    with trio.move_on_after(0):
        await tree.end(0.1)
    assert [pid for pid in pids if exists(pid)] == []
    await process.aclose()


async def test_a_frozen_tree_ends(tree: Tree, stubborn: list[str], words: Words, exists: Exists) -> None:
    process = await tree.spawn(stubborn)
    pids = await words(process, 6)
    await tree.freeze()
    with trio.fail_after(5):
        assert await tree.end(0.1) == []
    assert not tree.frozen
    assert [pid for pid in pids if exists(pid)] == []
    await process.aclose()


async def test_a_tree_whose_keeper_was_killed_is_found_by_its_marker(
    tree: Tree, stubborn: list[str], words: Words, exists: Exists
) -> None:
    process = await tree.spawn(stubborn)
    pids = await words(process, 6)
    [keeper] = {known.ppid for known in tree.processes() if known.pid == process.pid}
    os.kill(keeper, signal.SIGKILL)
    with trio.fail_after(5):
        # The kernel kills the keeper's children with it, so waiting for one ends truthfully.
        assert await process.wait() == -signal.SIGKILL
        assert await tree.end(0.1) == []
    assert [pid for pid in pids if exists(pid)] == []
    await process.aclose()


async def test_a_stopped_keeper_still_ends_its_tree(
    tree: Tree, stubborn: list[str], words: Words, exists: Exists
) -> None:
    process = await tree.spawn(stubborn)
    pids = await words(process, 6)
    [keeper] = {known.ppid for known in tree.processes() if known.pid == process.pid}
    os.kill(keeper, signal.SIGSTOP)
    with trio.fail_after(5):
        assert await tree.end(0.1) == []
    assert [pid for pid in pids if exists(pid)] == []
    await process.aclose()


async def test_fifty_stubborn_trees_end_at_once(house: str, stubborn: list[str], words: Words, exists: Exists) -> None:
    trees = [Tree(f"{house}.stubborn.{number}") for number in range(50)]
    pids: list[str] = []

    async def start(tree: Tree) -> None:
        process = await tree.spawn(stubborn)
        pids.extend(await words(process, 6))
        await process.aclose()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for tree in trees:
                nursery.start_soon(start, tree)
    assert len(pids) == 300
    with trio.fail_after(2.2):
        async with trio.open_nursery() as nursery:
            for tree in trees:
                nursery.start_soon(tree.end, 0.2)
    assert [pid for pid in pids if exists(pid)] == []
    assert guardian.pid is None
