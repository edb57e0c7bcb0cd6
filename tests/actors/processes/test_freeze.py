"""Freezing a tree: nothing runs, nothing is lost."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from actors.processes import Process, Tree

Words = Callable[[Process, int], Awaitable[list[str]]]
pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")


def states(tree: Tree) -> set[str]:
    return {known.status for known in tree.processes()}


async def test_a_frozen_tree_makes_no_progress_and_a_thawed_one_goes_on(tree: Tree, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.touch()
    process = await tree.spawn(["sh", "-c", 'while :; do echo >> "$0"; (:); done', str(count)])
    with trio.fail_after(5):
        while count.stat().st_size < 10:
            await trio.sleep(0.001)
        await tree.freeze()
    assert tree.frozen
    assert states(tree) == {"T"}
    before = count.stat().st_size
    await trio.sleep(0.1)
    assert count.stat().st_size == before
    tree.thaw()
    assert not tree.frozen
    with trio.fail_after(5):
        while count.stat().st_size <= before:
            await trio.sleep(0.001)
    await process.aclose()


async def test_freezing_catches_what_is_forked_meanwhile(tree: Tree, words: Words) -> None:
    # Each of eight loops forks children that outlive their parents, in sessions of their own.
    loop = "while :; do (setsid sleep 0.05 &); done"
    process = await tree.spawn(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do ({loop}) & done; echo ready; wait"])
    await words(process, 1)
    for _ in range(3):
        with trio.fail_after(5):
            await tree.freeze()
        everyone = {known.pid for known in tree.processes()}
        assert states(tree) == {"T"}
        assert len(everyone) > 8
        await trio.sleep(0.05)
        assert {known.pid for known in tree.processes()} == everyone
        tree.thaw()
    await process.aclose()


async def test_every_thread_is_stopped(tree: Tree, words: Words) -> None:
    spin = "import threading\nfor _ in range(4): threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nprint('ready', flush=True)"
    process = await tree.spawn(["python3", "-c", spin])
    await words(process, 1)
    with trio.fail_after(5):
        await tree.freeze()
    threads = [task / "stat" for task in Path(f"/proc/{process.pid}/task").iterdir()]
    assert len(threads) == 5
    assert {stat.read_text().rpartition(") ")[2][0] for stat in threads} == {"T"}
    await process.aclose()


async def test_a_shell_does_not_notice_that_its_job_was_frozen(tree: Tree, program: Callable[[str], str]) -> None:
    process = await tree.spawn([program("bash"), "--norc", "-i"], pty=(24, 80))
    assert process.stdin is not None
    # The job prints, waits for a line, and prints again; then the shell does.
    await process.stdin.send_all(b"stty -echo; PS1=; sh -c 'echo st''arted; sleep 0.3'; echo status=$?\n")
    heard = b""
    with trio.fail_after(10):
        while b"started\r\n" not in heard:
            heard += await process.stdout.receive_some()
        for _ in range(5):
            await tree.freeze()
            await trio.sleep(0.02)
            tree.thaw()
        while b"status=0" not in heard:
            heard += await process.stdout.receive_some()
    assert b"Stopped" not in heard
    await process.aclose()


async def test_thawing_leaves_stopped_what_was_stopped_before(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "sleep 1000 & kill -STOP $!; echo $!; wait"])
    [child] = await words(process, 1)
    with trio.fail_after(5):
        await tree.freeze()
        tree.thaw()
    assert {known.pid: known.status for known in tree.processes()}[int(child)] == "T"
    await process.aclose()


async def test_nothing_starts_in_a_frozen_tree_until_it_is_thawed(tree: Tree) -> None:
    first = await tree.spawn(["sleep", "1000"])
    await tree.freeze()
    started: list[Process] = []

    async def start() -> None:
        started.append(await tree.spawn(["sleep", "1000"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert [known.pid for known in tree.processes()] == [first.pid]
        tree.thaw()
    assert [known.pid for known in tree.processes()] == [first.pid, started[0].pid]
    for process in (first, *started):
        await process.aclose()


async def test_a_cancelled_freeze_lets_everything_run_on(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "sleep 1000 & echo ready; wait"])
    await words(process, 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await tree.freeze()
    assert not tree.frozen
    with trio.fail_after(5):
        while "T" in states(tree):
            await trio.sleep(0.001)
        await (await tree.spawn(["true"])).aclose()
    await process.aclose()


async def test_ending_a_tree_breaks_off_its_freeze(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "echo ready; while :; do (:); done"])
    await words(process, 1)

    async def freeze() -> None:
        try:
            await tree.freeze()
        except trio.ClosedResourceError:
            pass

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze)
            nursery.start_soon(tree.end, 1)
    assert not tree.frozen
    await process.aclose()
