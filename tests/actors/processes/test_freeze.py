"""Freezing a tree: nothing runs, nothing is lost."""

import contextlib
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


def threads(pid: int) -> list[str]:
    """The state of each thread."""
    return [(task / "stat").read_text().rpartition(") ")[2][0] for task in Path(f"/proc/{pid}/task").iterdir()]


async def runs(process: Process) -> None:
    """Wait until it has printed more than a pipe could have held (64 KiB)."""
    heard = 0
    with trio.fail_after(5):
        while heard < 100_000:
            heard += len(await process.stdout.receive_some())


async def test_a_frozen_tree_makes_no_progress_and_a_thawed_one_goes_on(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "while :; do echo progress; done & while :; do (echo progress); done"])
    await runs(process)
    with trio.fail_after(5):
        await tree.freeze()
    assert states(tree) == {"stopped"}
    with trio.move_on_after(0.1):  # what it had printed before
        while True:
            await process.stdout.receive_some()
    with trio.move_on_after(0.1) as silence:
        await process.stdout.receive_some()
    assert silence.cancelled_caught
    tree.thaw()
    await runs(process)
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
        assert states(tree) == {"stopped"}
        assert len(everyone) > 8
        await trio.sleep(0.05)
        assert {known.pid for known in tree.processes()} == everyone
        tree.thaw()
    await process.aclose()


@pytest.mark.parametrize("groups", [None], indirect=True)
async def test_every_thread_is_stopped(tree: Tree, words: Words) -> None:
    spin = (
        "import threading\n"
        "for _ in range(4): threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\n"
        "print('ready', flush=True)"
    )
    process = await tree.spawn(["python3", "-c", spin])
    await words(process, 1)
    with trio.fail_after(5):
        await tree.freeze()
    assert len(threads(process.pid)) == 5
    assert set(threads(process.pid)) == {"T"}
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
    process = await tree.spawn(
        ["sh", "-c", "sleep 1000 & kill -STOP $!; until grep -q '^State:.T' /proc/$!/status; do :; done; echo $!; wait"]
    )
    [child] = await words(process, 1)
    with trio.fail_after(5):
        await tree.freeze()
        tree.thaw()
    assert {known.pid: known.status for known in tree.processes()}[int(child)] == "stopped"
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


@pytest.mark.parametrize("groups", [None], indirect=True)  # one with a group is frozen before anybody can cancel that
async def test_a_cancelled_freeze_lets_everything_run_on(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "while :; do echo progress; done"])
    await runs(process)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.freeze)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert not tree.frozen
    await runs(process)
    with trio.fail_after(5):
        await (await tree.spawn(["true"])).aclose()
    await process.aclose()


async def test_ending_a_tree_breaks_off_its_freeze(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "echo ready; while :; do (:); done"])
    await words(process, 1)

    async def freeze() -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            await tree.freeze()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(freeze)
            nursery.start_soon(tree.end, 1)
    assert not tree.frozen
    await process.aclose()
