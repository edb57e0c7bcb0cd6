"""The helper program: there while it is needed, gone with us, also when we are killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from actors.processes import Process, Tree, hold_guardian, reap_leftovers
from actors.processes.guardian import guardian

Words = Callable[[Process, int], Awaitable[list[str]]]
Exists = Callable[[str], bool]
pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")

# A daemon in small: it starts two stubborn trees, prints the pids of all its processes, and waits to be killed.
OWNER = """
import sys, trio
from actors.processes import Tree
from actors.processes.guardian import guardian

async def main(house, *argv):
    for number in "12":
        tree = Tree(f"{house}.engine{number}.1")
        process = await tree.spawn(argv)
        heard = b""
        while len(heard.split()) < 6 or not heard.endswith(b"\\n"):
            heard += await process.stdout.receive_some()
        print(heard.decode(), tree.processes()[0].ppid, flush=True)
    print("guardian", guardian.pid, flush=True)
    await trio.sleep_forever()

trio.run(main, *sys.argv[1:])
"""


@pytest.fixture
def owner(root: Path, house: str, stubborn: list[str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A running owner of two trees, and the pids of their processes, their keepers and their guardian."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, house, *stubborn], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids: list[str] = []
        while "guardian" not in pids:
            pids += process.stdout.readline().split()
        pids.remove("guardian")
        assert len(pids) == 15
        yield process, pids
        process.kill()


async def gone(pids: list[str]) -> None:
    """Wait until all have ended. Whoever is nobody's child any more may be a zombie until init looks."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(int(pid))
        except ProcessLookupError:
            continue
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)


async def test_all_trees_end_within_two_seconds_of_a_kill_9(owner: tuple[subprocess.Popen[str], list[str]]) -> None:
    process, pids = owner
    process.kill()
    with trio.fail_after(2):
        await gone(pids)


async def test_what_outlives_even_the_keepers_is_found_by_its_marker(
    owner: tuple[subprocess.Popen[str], list[str]], house: str
) -> None:
    process, pids = owner
    keepers = [pids[6], pids[13], pids[14]]
    for pid in [*keepers, str(process.pid)]:
        os.kill(int(pid), signal.SIGSTOP)  # so that none of them can act on the others' death
    for pid in [*keepers, str(process.pid)]:
        os.kill(int(pid), signal.SIGKILL)
    with trio.fail_after(4):
        assert await reap_leftovers(f"{house}-other") == ([], [])
        kept, leaks = await reap_leftovers(house, keep=[f"{house}.engine2.1"], term_s=0.05)
        ended, more = await reap_leftovers(house, term_s=0.05)
        assert leaks == more == []
        await gone(pids)
    assert kept
    assert ended
    assert {str(known.pid) for known in kept} <= set(pids[:6])
    assert {str(known.pid) for known in ended} <= set(pids[7:13])
    assert await reap_leftovers(house) == ([], [])


async def test_the_guardian_comes_with_the_first_program_and_goes_with_the_last(house: str, exists: Exists) -> None:
    first, second = Tree(f"{house}.a.1"), Tree(f"{house}.b.1")
    for tree in (first, second):
        await (await tree.spawn(["sleep", "1000"])).aclose()
    pid = str(guardian.pid)
    await first.end(1)
    assert str(guardian.pid) == pid
    await second.end(1)
    assert guardian.pid is None
    assert not exists(pid)


async def test_a_held_guardian_serves_the_next_tree(house: str, exists: Exists) -> None:
    pids = set()
    async with hold_guardian():
        for number in (1, 2):
            tree = Tree(f"{house}.engine.{number}")
            await (await tree.spawn(["true"])).aclose()
            await tree.end(1)
            pids.add(str(guardian.pid))
    [pid] = pids
    assert not exists(pid)


async def test_a_killed_guardian_is_replaced_and_running_trees_go_on(house: str) -> None:
    first, second = Tree(f"{house}.a.1"), Tree(f"{house}.b.1")
    sleeper = await first.spawn(["sleep", "1000"])
    killed = guardian.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    with trio.fail_after(5):
        await gone([str(killed)])
        await (await second.spawn(["true"])).aclose()
        assert guardian.pid not in (None, killed)
        assert [known.pid for known in first.processes()] == [sleeper.pid]
        assert await first.end(60) == []
        assert await second.end(60) == []
    assert sleeper.returncode == -signal.SIGTERM
    await sleeper.aclose()


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_an_inquisitive_child_finds_no_secret_in_the_helpers(
    tree: Tree, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    process = await tree.spawn(["sleep", "1000"])
    [program] = tree.processes()
    assert guardian.pid is not None
    for pid in (guardian.pid, program.ppid):
        assert environment(pid) == b""
    await process.aclose()


async def test_no_thread_is_started(tree: Tree) -> None:
    before = threading.active_count()
    await (await tree.spawn(["true"])).aclose()
    assert threading.active_count() == before
