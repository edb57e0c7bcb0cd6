"""Trees that outlive who started them: one house after another, played by one tree after another."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from actors.processes import Home, Process, Tree, linux, standing

Words = Callable[[Process, int], Awaitable[list[str]]]


@pytest.fixture
async def home(tmp_path: Path, house: str) -> AsyncIterator[Home]:
    made = Home.of(tmp_path / "lasting", "eng_0123456789abcdef", lasts=True)
    yield made
    assert await Tree(made.marker(house), home=made).end(term_s=0) == []
    assert not made.occupied


def state(pid: int) -> str | None:
    stat = linux.read(pid)
    return stat.state if stat is not None and stat.alive else None


async def test_what_was_left_is_taken_over_with_all_below_it(home: Home, house: str, words: Words) -> None:
    first = Tree(home.marker(house), home=home)
    process = await first.spawn(["sh", "-c", "setsid sleep 1000 & echo $$ $!; exec sleep 1000"])
    pids = {int(word) for word in await words(process, 2)}
    await first.leave()
    assert [one.path for one in await standing(home.path.parent)] == [home.path]
    second = Tree(home.marker(house), home=home)
    assert await second.adopt()
    assert {row.pid for row in second.processes()} == pids
    more = await second.spawn(["sh", "-c", "echo $$; exec sleep 1000"])
    assert int((await words(more, 1))[0]) in {row.pid for row in second.processes()}
    more.signal(signal.SIGKILL)
    assert await more.wait() == -signal.SIGKILL, "its number is its own"
    assert await second.end(term_s=1) == []
    assert [pid for pid in pids if state(pid)] == []
    assert await standing(home.path.parent) == []


async def test_a_tree_that_was_not_taken_over_ends_just_so(home: Home, house: str, words: Words) -> None:
    first = Tree(home.marker(house), home=home)
    process = await first.spawn(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"])
    (pid,) = map(int, await words(process, 1))
    await first.leave()
    assert await Tree(home.marker(house), home=home).end(term_s=0.1) == []
    assert state(pid) is None
    assert not home.occupied


async def test_frozen_stays_frozen_and_what_somebody_had_stopped_is_not_woken(
    home: Home, house: str, words: Words
) -> None:
    first = Tree(home.marker(house), home=home)
    process = await first.spawn(["sh", "-c", "sleep 1000 & kill -STOP $!; echo $$ $!; exec sleep 1000"])
    pid, stopped = map(int, await words(process, 2))
    await first.freeze()
    await first.leave()
    assert (state(pid), state(stopped)) == ("T", "T")
    second = Tree(home.marker(house), home=home)
    assert await second.adopt()
    with trio.fail_after(5):
        while state(pid) == "T":  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(0.01)
    assert state(stopped) == "T"
    assert await second.end(term_s=0) == []


async def test_where_nothing_is_left_nothing_is_taken_over(home: Home, house: str) -> None:
    assert not await Tree(home.marker(house), home=home).adopt()
    home.make()
    (home.path / "keeper").write_text("no socket")
    assert not await Tree(home.marker(house), home=home).adopt()


async def test_a_keeper_that_was_killed_leaves_nothing_that_is_not_found(home: Home, house: str, words: Words) -> None:
    first = Tree(home.marker(house), home=home)
    process = await first.spawn(["sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1000"])
    (orphan,) = map(int, await words(process, 1))
    await first.leave()
    held = await home.call()
    assert held is not None
    held.socket.close()
    os.kill(held.keeper, signal.SIGKILL)
    assert await Tree(home.marker(house), home=home).end(term_s=0) == []
    assert state(orphan) is None


async def test_a_home_that_is_removed_ends_its_tree(
    home: Home, house: str, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Tree(home.marker(house), home=home)
    process = await first.spawn(["sh", "-c", "trap '' TERM HUP; echo $$; while :; do sleep 1; done"])
    (pid,) = map(int, await words(process, 1))
    await first.leave()
    home.remove()
    with trio.fail_after(20):
        while state(pid):  # noqa: ASYNC110 - as above
            await trio.sleep(0.05)


async def test_a_home_that_does_not_last_is_a_folder_that_goes_with_the_tree(tmp_path: Path, house: str) -> None:
    home = Home.of(tmp_path, "eng_0123456789abcdef", lasts=False)
    home.make()
    tree = Tree(f"{house}.engine.1", home=home)
    await tree.spawn(["sleep", "1000"])
    assert not await tree.adopt()
    assert await tree.end(term_s=0) == []
    assert not home.occupied
