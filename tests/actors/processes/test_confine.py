"""What a program is born into: environment, directory, limits, privileges."""

import errno
import json
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.children import ChildPolicy, ResourceLimits
from actors.processes import SpawnFailed, Tree

pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")
Grown = Callable[..., AbstractAsyncContextManager[Tree]]


@pytest.fixture
def grown(house: str) -> Grown:
    """A tree with a policy of its own."""

    @asynccontextmanager
    async def grown(**policy: Any) -> AsyncIterator[Tree]:
        tree = Tree(f"{house}.engine.1", ChildPolicy(**policy))
        try:
            yield tree
        finally:
            assert await tree.end(term_s=0) == []  # noqa: ASYNC102 - it shields itself, and is bounded

    return grown


async def said(tree: Tree, *argv: str, **more: Any) -> str:
    """What a program prints, and how it ended."""
    process = await tree.spawn(argv, merge_stderr=True, **more)
    with trio.fail_after(10):
        heard = b"".join([data async for data in process.stdout])
        await process.wait()
    await process.aclose()
    return heard.decode()


async def ended(tree: Tree, *argv: str, **more: Any) -> int:
    process = await tree.spawn(argv, **more)
    with trio.fail_after(20):
        code = await process.wait()
    await process.aclose()
    return code


async def refused(tree: Tree, *argv: str, **more: Any) -> SpawnFailed:
    with pytest.raises(SpawnFailed) as caught:
        await tree.spawn(argv, **more)
    assert tree.processes() == []
    return caught.value


async def test_the_environment_is_what_the_policy_passes_on(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_NUMBER", "7")
    monkeypatch.setenv("ENGINEHOUSE_API_KEY", "hunter2")
    async with grown(pass_env=("BUILD_NUMBER",)) as tree:
        names = [line.partition("=")[0] for line in (await said(tree, "/usr/bin/env")).splitlines()]
    assert names == ["BUILD_NUMBER", "ENGINEHOUSE_TREE"]


async def test_nothing_gains_privileges_unless_the_policy_says_so(grown: Grown) -> None:
    async with grown() as tree:
        assert await said(tree, "grep", "NoNewPrivs", "/proc/self/status") == "NoNewPrivs:\t1\n"
    async with grown(no_new_privs=False) as tree:
        assert await said(tree, "grep", "NoNewPrivs", "/proc/self/status") == "NoNewPrivs:\t0\n"


async def test_the_umask_is_the_policys_whatever_ours_is(grown: Grown) -> None:
    before = os.umask(0o077)
    try:
        async with grown() as tree:
            assert await said(tree, "sh", "-c", "umask") == "0022\n"
        async with grown(umask=0o027) as tree:
            assert await said(tree, "sh", "-c", "umask") == "0027\n"
    finally:
        os.umask(before)


LOOK = (
    "import json, resource as r; print(json.dumps({n: r.getrlimit(getattr(r, 'RLIMIT_' + n))"
    " for n in ('CPU', 'AS', 'NPROC', 'NOFILE', 'FSIZE', 'CORE')}))"
)


async def test_each_limit_is_set_and_cannot_be_raised_again(grown: Grown) -> None:
    limits = ResourceLimits(
        cpu_s=30, memory_bytes=1 << 31, processes=5000, files=100, file_bytes=1 << 20, core_bytes=4096
    )
    async with grown() as tree:
        found = json.loads(await said(tree, "python3", "-c", LOOK, limits=limits))
    assert found == {
        "CPU": [30, 31], "AS": [1 << 31] * 2, "NPROC": [5000] * 2, "NOFILE": [100] * 2, "FSIZE": [1 << 20] * 2,
        "CORE": [4096] * 2,
    }  # fmt: skip


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """We may have as many as there are, as the daemon makes it for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
async def test_without_limits_a_program_has_those_that_programs_expect_and_no_core_files(grown: Grown) -> None:
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with grown() as tree:
        found = json.loads(await said(tree, "python3", "-c", LOOK))
    assert found["NOFILE"] == [min(1024, ours), ours]
    assert found["CORE"] == [0, 0]
    assert found["AS"] == list(resource.getrlimit(resource.RLIMIT_AS))


async def test_the_policys_limits_hold_where_an_engines_say_nothing(grown: Grown) -> None:
    async with grown(limits=ResourceLimits(files=200, file_bytes=1 << 30)) as tree:
        found = json.loads(await said(tree, "python3", "-c", LOOK, limits=ResourceLimits(files=50)))
    assert (found["NOFILE"], found["FSIZE"]) == ([50, 50], [1 << 30] * 2)


async def test_what_is_used_too_much_ends_the_program_with_its_own_signal(grown: Grown, tmp_path: Path) -> None:
    async with grown() as tree:
        spin = ("sh", "-c", "while :; do :; done")
        assert await ended(tree, *spin, limits=ResourceLimits(cpu_s=1)) == -signal.SIGXCPU
        stubborn = ("sh", "-c", "trap '' XCPU; while :; do :; done")
        assert await ended(tree, *stubborn, limits=ResourceLimits(cpu_s=1)) == -signal.SIGKILL
        write = ("sh", "-c", "exec head -c 100000 /dev/zero >file")
        assert await ended(tree, *write, limits=ResourceLimits(file_bytes=4096), cwd=tmp_path) == -signal.SIGXFSZ


async def test_beneath_a_root_no_link_is_followed(grown: Grown, tmp_path: Path) -> None:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    async with grown(roots=(str(tmp_path / "root"),)) as tree:
        assert await said(tree, "pwd", cwd=tmp_path / "root" / "inside") == f"{tmp_path}/root/inside\n"
        through = await refused(tree, "pwd", cwd=tmp_path / "root" / "link")
        assert (through.reason, through.errno) == ("wrong-directory", errno.ELOOP)
        assert "a link is on the way" in str(through)
        for cwd in (tmp_path / "outside", tmp_path / "root" / ".." / "outside", "/", None):
            assert "is not beneath" in str(await refused(tree, "pwd", cwd=cwd))


async def test_an_exchanged_directory_leads_nobody_out(grown: Grown, tmp_path: Path) -> None:
    root, outside, kept = tmp_path / "root", tmp_path / "outside", tmp_path / "kept"
    (root / "inside").mkdir(parents=True)
    outside.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "inside").rename(kept)
            (root / "inside").symlink_to(outside)
            (root / "inside").unlink()
            kept.rename(root / "inside")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        async with grown(roots=(str(root),)) as tree:
            for _ in range(100):
                try:
                    where = await said(tree, "/bin/pwd", "-P", cwd=root / "inside")
                except SpawnFailed as error:
                    refusals = (errno.ELOOP, errno.ENOENT, errno.ENOTDIR)  # the last: a link that was gone at the look
                    assert error.errno in refusals  # noqa: PT017 - each is right, so is success
                else:
                    assert where in (f"{root}/inside\n", f"{kept}\n")
    finally:
        stop.set()
        thread.join()


async def test_nothing_starts_in_a_private_directory_however_it_gets_there(grown: Grown, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "runs").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(state)
    (tmp_path / "stately").mkdir()
    async with grown(private=(str(state),)) as tree:
        for cwd in (state, state / "runs", tmp_path / "alias", tmp_path / "alias" / "runs"):
            error = await refused(tree, "pwd", cwd=cwd)
            assert (error.reason, error.errno) == ("wrong-directory", errno.EPERM)
            assert "it is the house's own" in str(error)
        assert await said(tree, "pwd", cwd=tmp_path / "stately") == f"{tmp_path}/stately\n"


async def test_a_workspace_is_made_and_entered_though_it_lies_in_the_private_one(grown: Grown, tmp_path: Path) -> None:
    root = tmp_path / "state" / "workspaces"
    async with grown(private=(str(tmp_path / "state"),), workspaces=str(root), roots=("/srv",)) as tree:
        assert await said(tree, "/bin/pwd", "-P", workspace="alice") == f"{root}/alice\n"
        (root / "evil").symlink_to("/etc")
        assert (await refused(tree, "pwd", workspace="evil")).errno == errno.ELOOP
        assert "no name of a workspace" in str(await refused(tree, "pwd", workspace=".."))


async def test_further_descriptors_are_numbered_from_three_and_nothing_else_is_there(
    grown: Grown, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("handed over\n")
    with (tmp_path / "text").open() as file:
        async with grown() as tree:
            look = "import os; print(os.read(4, 99), [f for f in range(99) if os.path.exists(f'/proc/self/fd/{f}')])"
            heard = await said(tree, "python3", "-c", look, descriptors=[file.fileno(), file.fileno()])
    assert heard == r"b'handed over\n' [0, 1, 2, 3, 4]" + "\n"
