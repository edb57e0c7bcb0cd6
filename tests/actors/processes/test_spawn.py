"""Starting one program: what it gets, what it says when it ends, and how it fails to start."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from actors.processes import Process, SpawnFailed, Tree

Words = Callable[[Process, int], Awaitable[list[str]]]
pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")


async def output(process: Process) -> bytes:
    with trio.fail_after(5):
        heard = b"".join([data async for data in process.stdout])
        await process.wait()
    await process.aclose()
    return heard


async def test_the_exit_status_is_the_programs(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "exit 3"])
    with trio.fail_after(5):
        assert await process.wait() == 3
    assert process.returncode == 3
    await process.aclose()


async def test_a_signal_is_a_negative_status_and_reaches_the_whole_group(
    tree: Tree, words: Words, exists: Callable[[str], bool]
) -> None:
    process = await tree.spawn(["sh", "-c", "sleep 1000 & echo $!; wait"])
    [child] = await words(process, 1)
    assert process.returncode is None
    process.signal(signal.SIGKILL)
    with trio.fail_after(5):
        assert await process.wait() == -signal.SIGKILL
        assert await process.stdout.receive_some() == b""  # both writers are gone
    await tree.end(0)
    assert not exists(child)
    process.signal(signal.SIGKILL)
    await process.aclose()


async def test_any_number_may_wait_and_a_cancelled_waiter_takes_nothing_away(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "read line; exit 7"])
    seen: list[int] = []

    async def wait() -> None:
        seen.append(await process.wait())

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            impatient = trio.CancelScope()
            with impatient:
                async with trio.open_nursery() as brief:
                    brief.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
                    impatient.cancel()
            for _ in range(3):
                nursery.start_soon(wait)
            assert process.stdin is not None
            await process.stdin.send_all(b"\n")
    assert seen == [7, 7, 7]
    await process.aclose()


async def test_it_gets_exactly_the_environment_that_was_given_and_the_marker(tree: Tree) -> None:
    process = await tree.spawn(["/usr/bin/env"], env={"A": "1", "B": "ü"})
    assert sorted((await output(process)).decode().splitlines()) == ["A=1", "B=ü", f"ENGINEHOUSE_TREE={tree.marker}"]


async def test_without_one_it_gets_no_variable_that_could_hold_a_secret(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "hunter2")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    said = (await output(await tree.spawn(["env"]))).decode()
    assert "hunter2" not in said
    assert "LC_ALL=C.UTF-8" in said
    assert "PATH=" in said


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """As a shell without job control starts what it does not wait for."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGQUIT, before)


async def test_it_leads_a_session_with_three_descriptors_and_default_signals(
    in_the_background: None, tree: Tree, tmp_path: Path
) -> None:
    leaked = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    look = (
        "import json, os; s = open('/proc/self/status').read(); print(json.dumps({'sid': os.getsid(0) == os.getpid(),"
        "'group': os.getpgid(0) == os.getpid(), 'cwd': os.getcwd(),"
        "'fds': [f for f in range(64) if os.path.exists(f'/proc/self/fd/{f}')],"
        "'ignored': s.split('SigIgn:')[1].split()[0], 'blocked': s.split('SigBlk:')[1].split()[0]}))"
    )
    # A shell in between, because Python itself ignores signals.
    process = await tree.spawn(
        ["sh", "-c", 'grep SigIgn /proc/$$/status; exec "$@"', "-", sys.executable, "-c", look], cwd=tmp_path
    )
    ignored, said = (await output(process)).decode().splitlines()
    os.close(leaked)
    # 32 and 33 are glibc's own (nptl(7)): nobody may change them, so they are as whoever started the suite left them.
    assert int(ignored.split()[1], 16) & ~(0b11 << 31) == 0
    told = json.loads(said)
    assert (told["sid"], told["group"], told["cwd"]) == (True, True, str(tmp_path))
    assert told["fds"] == [0, 1, 2]
    assert told["blocked"] == "0" * 16


async def test_standard_error_goes_its_own_way_unless_merged(tree: Tree) -> None:
    apart = await tree.spawn(["sh", "-c", "echo out; echo err >&2"])
    assert apart.stderr is not None
    assert await apart.stderr.receive_some() == b"err\n"
    assert await output(apart) == b"out\n"
    merged = await tree.spawn(["sh", "-c", "echo out; echo err >&2"], merge_stderr=True)
    assert merged.stderr is None
    assert await output(merged) == b"out\nerr\n"


async def test_without_stdin_it_reads_an_end_of_file(tree: Tree) -> None:
    process = await tree.spawn(["cat"], stdin=False)
    assert process.stdin is None
    assert await output(process) == b""


async def test_a_request_larger_than_a_socket_takes_arrives_whole(tree: Tree) -> None:
    long = ["x" * 100_000] * 8
    assert await output(await tree.spawn(["sh", "-c", "echo $#", "-", *long])) == b"8\n"


async def failure(tree: Tree, *argv: str, cwd: str | Path | None = None, **env: str) -> SpawnFailed:
    with pytest.raises(SpawnFailed) as caught:
        await tree.spawn(argv, cwd=cwd, env={"PATH": os.defpath, **env})
    assert tree.processes() == []
    return caught.value


async def test_a_missing_program_is_named(tree: Tree) -> None:
    for name in ("no-such-program", "/no/such/program", "/dev/null/program"):
        error = await failure(tree, name)
        assert (error.reason, error.argv0) == ("missing-program", name)
        assert name in str(error)


async def test_a_wrong_directory_is_named(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for where in (tmp_path / "absent", tmp_path / "file"):
        error = await failure(tree, "true", cwd=where)
        assert error.reason == "wrong-directory"
        assert str(where) in str(error)


async def test_what_cannot_be_executed_says_so(tree: Tree, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    orphaned = tmp_path / "orphaned"
    orphaned.write_text("#!/no/such/interpreter\n")
    orphaned.chmod(0o755)
    for path, code in ((plain, errno.EACCES), (orphaned, errno.ENOEXEC), (tmp_path, errno.EACCES)):
        error = await failure(tree, str(path))
        assert (error.reason, error.errno) == ("not-executable", code)
    # Found, but not executable, in one folder of PATH: that is the reason, not that it is missing from the others.
    assert (await failure(tree, "plain", PATH=f"/absent:{tmp_path}:/absent")).reason == "not-executable"


@pytest.mark.parametrize("argv", [[], ["a\0b"], ["true", "a\0b"]])
async def test_words_no_system_can_take_fail_before_anything_starts(tree: Tree, argv: list[str]) -> None:
    assert (await failure(tree, *argv)).reason == "failed"


async def test_a_cancelled_spawn_leaves_nothing(house: str) -> None:
    for checkpoints in range(8):
        tree = Tree(f"{house}.cancelled.{checkpoints}")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, checkpoints, scope)
                process = await tree.spawn(["sh", "-c", "trap '' TERM; sleep 1000"])
                await process.aclose()
        with trio.fail_after(2):  # the long grace is not needed: the program was killed by the cancelled spawn
            assert await tree.end(60 if scope.cancelled_caught else 0) == []
        assert tree.processes() == []


async def cancel_after(checkpoints: int, scope: trio.CancelScope) -> None:
    for _ in range(checkpoints):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_hundred_programs_start_within_a_second_and_a_half(house: str) -> None:
    trees = [Tree(f"{house}.engine.{number}") for number in range(100)]
    processes: list[Process] = []

    async def start(tree: Tree) -> None:
        processes.append(await tree.spawn(["sleep", "1000"]))

    with trio.fail_after(1.5):
        async with trio.open_nursery() as nursery:
            for tree in trees:
                nursery.start_soon(start, tree)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for tree in trees:
                nursery.start_soon(tree.end, 1)
    assert {process.returncode for process in processes} == {-signal.SIGTERM}
    for process in processes:
        await process.aclose()


async def test_a_tree_lists_its_processes_with_what_they_use(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "sleep 1000 & echo $!; wait"])
    [child] = await words(process, 1)
    shell, sleeper = tree.processes()
    assert (shell.pid, shell.name, sleeper.pid, sleeper.ppid) == (process.pid, "sh", int(child), process.pid)
    assert shell.rss_bytes > 0
    assert shell.cpu_s >= 0
    assert abs(shell.started_at - time.time()) < 60
    await process.aclose()
