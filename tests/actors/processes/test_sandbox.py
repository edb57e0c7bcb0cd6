"""Sandboxes: what is shut out, that they are refused where they cannot be had, and that trees stay trees.

Each sandbox is tried for real where this machine has it; where it has not, it must be refused with a sentence.
"""

import ctypes
import os
import signal
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest
import trio

from actors.children import ChildPolicy, Outside, Sandbox
from actors.processes import Process, SpawnFailed, Tree, confine
from actors.processes.sandbox import lacking, unsafe

pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")
By = Literal["bubblewrap", "landlock"]
ALL: tuple[By, ...] = ("bubblewrap", "landlock")
HERE: list[By] = [by for by in ALL if lacking(Sandbox(by=by)) is None]
here = pytest.mark.parametrize("by", HERE)
Words = Callable[[Process, int], Awaitable[list[str]]]


@pytest.fixture
async def tree(house: str, tmp_path: Path) -> AsyncIterator[Tree]:
    made = Tree(f"{house}.engine.1", ChildPolicy(private=(str(tmp_path / "state"),)))
    yield made
    assert await made.end(term_s=0) == []


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """`work`, the directory of the program, with the house's state and other people's things beside it."""
    for name in ("work", "state", "given", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"in {name}\n")
    return tmp_path


async def said(tree: Tree, script: str, sandbox: Sandbox, cwd: Path) -> str:
    process = await tree.spawn(["sh", "-c", script], merge_stderr=True, sandbox=sandbox, cwd=cwd)
    with trio.fail_after(10):
        heard = b"".join([data async for data in process.stdout])
        await process.wait()
    await process.aclose()
    return heard.decode()


def test_this_machine_has_what_the_tests_below_are_about_or_says_why_not() -> None:
    for by in ALL:
        problem = lacking(Sandbox(by=by))
        assert (problem is None) == (by in HERE)
        assert problem is None or len(problem) > 20


@here
async def test_a_program_reads_and_writes_only_what_is_opened_to_it(tree: Tree, there: Path, by: By) -> None:
    sandbox = Sandbox(by=by, read=(str(there / "given"),))
    script = f"""
        cd {there}/work; cat file; echo new >made && cat made
        cat {there}/given/file; echo x 2>/dev/null >{there}/given/file || echo may not write
        cat {there}/other/file 2>/dev/null || echo may not read
        ls {there}/state 2>/dev/null || echo may not see
        touch /etc/x 2>/dev/null || echo may not touch
        echo x >/dev/null && head -c 1 /dev/urandom >/dev/null && echo devices
    """
    assert (await said(tree, script, sandbox, there / "work")).splitlines() == [
        "in work", "new", "in given", "may not write", "may not read", "may not see", "may not touch", "devices",
    ]  # fmt: skip
    assert (there / "work" / "made").read_text() == "new\n"
    assert (there / "given" / "file").read_text() == "in given\n"


@here
async def test_what_may_be_written_is(tree: Tree, there: Path, by: By) -> None:
    sandbox = Sandbox(by=by, write=(str(there / "given"),))
    script = f"cd {there}/given; mkdir deep; mv file deep/; echo more >>deep/file; rm -r deep/file; ln -s x y; ls"
    assert await said(tree, script, sandbox, there / "work") == "deep\ny\n"


CONNECT = """exec python3 -c "
import socket
s = socket.socket()
try:
    s.connect(('127.0.0.1', {port}))
except OSError as error:
    print('shut')
else:
    print('open')
" """


@here
async def test_the_network_is_shut_unless_it_is_opened(tree: Tree, there: Path, by: By) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    connect = CONNECT.format(port=port)
    assert await said(tree, connect, Sandbox(by=by), there / "work") == "shut\n"
    assert await said(tree, connect, Sandbox(by=by, network=True), there / "work") == "open\n"
    for listener in listeners:
        await listener.aclose()


@here
async def test_the_house_cannot_be_signalled_or_looked_into(tree: Tree, there: Path, by: By) -> None:
    script = f"kill -0 {os.getpid()} 2>/dev/null || echo may not; cat /proc/{os.getpid()}/environ 2>/dev/null | wc -c"
    heard = (await said(tree, script, Sandbox(by=by), there / "work")).split("\n")
    if by == "bubblewrap" or confine.landlock_version() >= 6:
        assert heard.pop(0) == "may not"
    assert heard[0] == "0"


@here
async def test_even_root_has_no_capability_left(tree: Tree, there: Path, by: By) -> None:
    heard = await said(tree, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status", Sandbox(by=by), there / "work")
    permitted, effective, bounding = (int(line.split()[1], 16) for line in heard.splitlines())
    assert (permitted, effective) == (0, 0)
    assert bounding == 0 or os.geteuid()


@here
async def test_a_sandbox_that_would_open_the_houses_own_directory_is_refused(tree: Tree, there: Path, by: By) -> None:
    (there / "alias").symlink_to(there)
    for sandbox, cwd in (
        (Sandbox(by=by, read=(str(there),)), there / "work"),
        (Sandbox(by=by, write=(str(there / "state"),)), there / "work"),
        (Sandbox(by=by, read=(str(there / "alias"),)), there / "work"),
        (Sandbox(by=by), there),
    ):
        with pytest.raises(SpawnFailed) as caught:
            await tree.spawn(["true"], sandbox=sandbox, cwd=cwd)
        assert caught.value.reason == "no-sandbox"
        with pytest.raises(Outside, match="would open the house's own"):
            unsafe(sandbox, str(cwd), tree.policy.private)
    unsafe(Sandbox(by=by, read=(str(there / "given"),)), str(there / "work"), tree.policy.private)


@here
async def test_what_is_to_be_opened_must_be_there(tree: Tree, there: Path, by: By) -> None:
    with pytest.raises(SpawnFailed, match="No such file") as caught:
        await tree.spawn(["true"], sandbox=Sandbox(by=by, read=(str(there / "absent"),)), cwd=there / "work")
    assert caught.value.reason == "no-sandbox"


@here
async def test_a_stubborn_tree_in_a_sandbox_ends_and_is_proven_empty(
    house: str, there: Path, by: By, stubborn: list[str], words: Words
) -> None:
    tree = Tree(f"{house}.stubborn.1")
    process = await tree.spawn(stubborn, sandbox=Sandbox(by=by), cwd=there / "work")
    await words(process, 6)
    pids = [row.pid for row in tree.processes()]
    assert len(pids) >= 6
    with trio.fail_after(5):
        assert await tree.end(term_s=0.1) == []
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []  # noqa: ASYNC240 - /proc does not block
    await process.aclose()


@here
async def test_freezing_stops_all_of_a_tree_in_a_sandbox(tree: Tree, there: Path, by: By, words: Words) -> None:
    script = "setsid sh -c 'echo deep; while :; do :; done' & while :; do :; done"
    process = await tree.spawn(["sh", "-c", script], sandbox=Sandbox(by=by), cwd=there / "work")
    await words(process, 1)
    with trio.fail_after(5):
        await tree.freeze()
    assert {row.status for row in tree.processes()} == {"stopped"}
    tree.thaw()
    assert "R" in {row.status for row in tree.processes()} or len(tree.processes()) >= 2
    await process.aclose()


@here
async def test_a_polite_signal_reaches_the_program_and_its_last_words_are_heard(
    house: str, there: Path, by: By, words: Words
) -> None:
    tree = Tree(f"{house}.polite.1")
    script = "trap 'echo bye >last; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    process = await tree.spawn(["sh", "-c", script], sandbox=Sandbox(by=by), cwd=there / "work")
    await words(process, 1)
    process.signal(signal.SIGTERM)
    with trio.fail_after(10):
        assert await tree.end(term_s=5) == []
    assert (there / "work" / "last").read_text() == "bye\n"
    await process.aclose()


def test_a_machine_without_bubblewrap_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no program bwrap" in str(lacking(Sandbox(by="bubblewrap")))


def test_a_bubblewrap_that_does_not_work_is_found_out_by_trying(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "No permissions to create new namespace" in str(lacking(Sandbox(by="bubblewrap")))
    broken.write_text("#!/bin/sh\nexit 0\n")
    assert lacking(Sandbox(by="bubblewrap")) is None


def test_a_kernel_without_landlock_or_with_an_old_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "landlock_version", lambda: 0)
    assert "Landlock is not to be had here" in str(lacking(Sandbox(by="landlock")))
    monkeypatch.setattr(confine, "landlock_version", lambda: 3)
    assert "network: true" in str(lacking(Sandbox(by="landlock")))
    assert lacking(Sandbox(by="landlock", network=True)) is None


def test_asking_the_kernel_changes_nothing_for_us() -> None:
    libc = ctypes.CDLL(None)
    confine.landlock_version()
    assert libc.prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS


def test_each_version_of_landlock_forbids_at_least_what_the_one_before_did() -> None:
    for version in range(1, 9):
        earlier, later = confine.everything(version), confine.everything(version + 1)
        assert later & earlier == earlier
