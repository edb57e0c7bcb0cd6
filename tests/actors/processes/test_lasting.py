"""Trees that outlive who started them: one house after another, played by one tree after another."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from actors.children import ChildPolicy, ControlGroups, ResourceLimits
from actors.processes import Home, Process, SpawnFailed, Tree, cgroup, keeper, lasting, linux, standing

Words = Callable[[Process, int], Awaitable[list[str]]]
Next = Callable[[], Tree]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.of(tmp_path / "lasting", "eng_0123456789abcdef", lasts=True)


@pytest.fixture
async def following(home: Home, house: str, groups: ControlGroups | None) -> AsyncIterator[Next]:
    """The tree of the next house."""
    marker, policy = home.marker(house), ChildPolicy(groups=groups)
    yield lambda: Tree(marker, policy, home)
    assert await Tree(marker, policy, home).end(term_s=0) == []
    assert not home.occupied
    assert groups is None or not Path(groups.path(marker)).exists()  # noqa: ASYNC240 - a moment


def state(pid: int) -> str | None:
    stat = linux.read(pid)
    return stat.state if stat is not None and stat.alive else None


def parent(pid: int) -> int:
    stat = linux.read(pid)
    assert stat is not None
    return stat.ppid


async def test_what_was_left_is_taken_over_with_all_below_it(home: Home, following: Next, words: Words) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "setsid sleep 1000 & echo $$ $!; exec sleep 1000"])
    pids = {int(word) for word in await words(process, 2)}
    await first.leave()
    assert [one.path for one in await standing(home.path.parent)] == [home.path]
    second = following()
    assert await second.adopt()
    assert {row.pid for row in second.processes()} == pids
    more = await second.spawn(["sh", "-c", "echo $$; exec sleep 1000"])
    assert int((await words(more, 1))[0]) in {row.pid for row in second.processes()}
    more.signal(signal.SIGKILL)
    assert await more.wait() == -signal.SIGKILL, "its number is its own"
    assert await second.end(term_s=1) == []
    assert [pid for pid in pids if state(pid)] == []
    assert await standing(home.path.parent) == []


async def test_a_tree_that_was_not_taken_over_ends_just_so(home: Home, following: Next, words: Words) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "trap '' TERM; echo $$; while :; do sleep 1; done"])
    (pid,) = map(int, await words(process, 1))
    await first.leave()
    assert await following().end(term_s=0.1) == []
    assert state(pid) is None
    assert not home.occupied


async def test_frozen_stays_frozen_and_what_somebody_had_stopped_is_not_woken(
    home: Home, house: str, following: Next, groups: ControlGroups | None, words: Words
) -> None:
    def frozen() -> bool:
        return state(pid) == "T" if groups is None else cgroup.is_frozen(groups.path(home.marker(house)))

    first = following()
    seen = "until grep -q '^State:.T' /proc/$!/status; do :; done"
    script = f"sleep 1000 & kill -STOP $!; {seen}; echo $$ $!; exec sleep 1000"
    process = await first.spawn(["sh", "-c", script])
    pid, stopped = map(int, await words(process, 2))
    await first.freeze()
    await first.leave()
    assert frozen()
    second = following()
    assert await second.adopt()
    with trio.fail_after(5):
        while frozen() or state(stopped) != "T":  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(0.01)
    assert await second.end(term_s=0) == []


async def test_where_nothing_is_left_nothing_is_taken_over(home: Home, following: Next) -> None:
    assert not await following().adopt()
    home.make()
    (home.path / "keeper").write_text("no socket")
    assert not await following().adopt()


async def test_the_control_group_is_the_same_for_every_house(
    home: Home, house: str, following: Next, groups: ControlGroups | None, words: Words
) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "setsid sleep 1000 & echo $$ $!; exec sleep 1000"])
    pids = {int(word) for word in await words(process, 2)}
    await first.leave()
    other = Tree(home.marker(house), home=home)  # of a house without any
    assert await other.adopt()
    more = await other.spawn(["sh", "-c", "echo $$; exec sleep 1000"])
    pids.add(int((await words(more, 1))[0]))
    assert other.confined is not None
    assert other.confined.group == (groups.path(home.marker(house)) if groups else None)
    if other.confined.group is not None:
        assert cgroup.members(other.confined.group) == pids
    await other.freeze()
    await other.leave()
    third = following()
    assert await third.adopt()
    with trio.fail_after(5):
        while any(linux.stopped(stat) for stat in map(linux.read, pids) if stat):  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
    assert groups is None or not cgroup.is_frozen(groups.path(home.marker(house)))
    assert await third.end(term_s=0) == []


async def test_a_limit_of_the_whole_tree_is_refused_where_it_was_begun_without_a_control_group(
    home: Home, house: str, tmp_path: Path
) -> None:
    first = Tree(home.marker(house), home=home)
    await first.spawn(["sleep", "1000"])
    await first.leave()
    claimed = ControlGroups(base=str(tmp_path), controllers=frozenset({"memory"}))
    second = Tree(home.marker(house), ChildPolicy(groups=claimed), home)
    with pytest.raises(SpawnFailed, match="tree_memory_bytes bounds a whole tree, and this one was begun without"):
        await second.spawn(["true"], limits=ResourceLimits(tree_memory_bytes=1 << 30))
    assert await (await second.spawn(["true"])).wait() == 0
    assert await second.end(term_s=0) == []


HIDDEN = "(env -i setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' &) ; exec sleep 1000"


@pytest.mark.parametrize("held", [True, False])
async def test_what_a_killed_keeper_kept_falls_to_its_guardian(
    home: Home, house: str, words: Words, *, held: bool
) -> None:
    tree = Tree(home.marker(house), home=home)
    (orphan,) = map(int, await words(await tree.spawn(["sh", "-c", HIDDEN]), 1))
    if not held:
        await tree.leave()
    os.kill(parent(orphan), signal.SIGKILL)
    with trio.fail_after(5):
        while state(orphan):  # noqa: ASYNC110 - as above
            await trio.sleep(0.01)
    assert await (tree if held else Tree(home.marker(house), home=home)).end(term_s=0) == []


async def test_a_guardian_that_was_killed_is_no_loss(home: Home, house: str, words: Words) -> None:
    tree = Tree(home.marker(house), home=home)
    (orphan,) = map(int, await words(await tree.spawn(["sh", "-c", HIDDEN]), 1))
    guardian = parent(parent(orphan))
    os.kill(guardian, signal.SIGKILL)
    await tree.leave()
    second = Tree(home.marker(house), home=home)
    assert await second.adopt()
    assert orphan in {row.pid for row in second.processes()}
    assert await second.end(term_s=0) == []
    assert state(orphan) is None
    with contextlib.suppress(ChildProcessError):
        os.waitpid(guardian, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


async def test_a_keeper_that_was_killed_leaves_nothing_that_is_not_found(
    home: Home, following: Next, words: Words
) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "setsid sleep 1000 & echo $!; exec sleep 1000"])
    (orphan,) = map(int, await words(process, 1))
    await first.leave()
    held = await home.call()
    assert held is not None
    held.socket.close()
    os.kill(held.keeper, signal.SIGKILL)
    assert await following().end(term_s=0) == []
    assert state(orphan) is None


CALLS = """
import socket, sys, threading
def call():
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
            try:
                one.connect(sys.argv[1])
                one.recv(1)
            except OSError:
                pass
for _ in range(10):
    threading.Thread(target=call).start()
print("up", flush=True)
"""


async def test_those_at_its_door_without_the_key_do_not_keep_the_next_house_out(
    home: Home, following: Next, words: Words
) -> None:
    first = following()
    process = await first.spawn([sys.executable, "-I", "-S", "-c", CALLS, str(home.path / "keeper")])
    assert await words(process, 1) == ["up"]
    await first.leave()
    with contextlib.ExitStack() as strangers:
        for _ in range(10):  # who say nothing
            stranger = strangers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            stranger.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                stranger.connect(str(home.path / "keeper"))
        second = following()
        assert await second.adopt()
    assert [row.pid for row in second.processes()] == [process.pid]
    assert await second.end(term_s=1) == []


def test_silent_callers_cost_less_than_a_call_may() -> None:
    assert (lasting.CALLERS + 1) * keeper.KEY_S < lasting.CALL_S


async def test_without_a_free_descriptor_a_tree_is_not_taken_for_none(
    home: Home, following: Next, words: Words
) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "echo $$; exec sleep 1000"])
    (pid,) = map(int, await words(process, 1))
    await first.leave()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            await following().adopt()
        with pytest.raises(SpawnFailed):
            await following().spawn(["true"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    second = following()
    assert await second.adopt()
    assert [row.pid for row in second.processes()] == [pid]
    assert await second.end(term_s=1) == []


async def test_a_home_of_which_nothing_can_be_known_stands(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: Home) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    home.make()
    assert await standing(home.path.parent) == []
    monkeypatch.setattr(Home, "call", full)
    assert await standing(home.path.parent) == [home]


async def test_the_end_needs_no_thread(
    home: Home, following: Next, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = following()
    process = await first.spawn(["sh", "-c", "echo $$; exec sleep 1000"])
    await words(process, 1)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", full)
        assert await first.end(term_s=1) == []


async def test_a_home_that_is_removed_ends_its_tree(
    home: Home, following: Next, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = following()
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
