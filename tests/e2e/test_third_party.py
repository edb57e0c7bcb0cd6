"""examples/inbox and examples/workflow: distributions of their own, built, installed, and spawned by a real daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.commands import Approve
from supervisor import Filter, NewEngine, NewRun
from tests.e2e.daemons import running
from tests.e2e.examples import install

EXAMPLES = ("inbox", "workflow")


@pytest.fixture(scope="module")
def installed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away folder with the examples in it, installed from their wheels and from nowhere else."""
    return install(EXAMPLES, root, tmp_path_factory.mktemp("third-party"))


async def test_an_installed_kind_is_spawned_by_its_name(installed: Path, tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "a.txt").write_text("dear house\n")
    async with running(tmp_path / "state", env={"PYTHONPATH": str(installed)}) as daemon, daemon.client() as house:
        assert "inbox" in [kind.kind for kind in await house.kinds()]
        assert (await house.kind("inbox")).emits == ["inbox.arrived"]
        await house.spawn(NewEngine(kind="inbox", id="in", config={"folder": str(letters)}))
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}
        assert (await house.slice("in", "files")).value == {"a.txt": 11}
        # What the house knows survives it; the kind is found again by the next one.
        await daemon.kill()
        await daemon.start()
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}
    # Without the package the engine keeps its place, and whoever asks is told what is missing.
    async with running(tmp_path / "state") as daemon, daemon.client() as house:
        gone = await house.get("in")
        assert gone.state == "failed"
        assert gone.last_exit is not None
        assert "inbox" in str(gone.last_exit["error"])
    async with running(tmp_path / "state", env={"PYTHONPATH": str(installed)}) as daemon, daemon.client() as house:
        await house.start("in")
        run, _ = await house.submit("in", NewRun(input="a.txt"), wait_s=30)
        assert run.result == {"lines": 1, "words": 2}


async def test_an_installed_workflow_takes_an_issue_to_a_branch(installed: Path, root: Path, tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(tmp_path / "repository")]
    run_git = partial(trio.run_process, capture_stdout=True)
    (tmp_path / "issues").mkdir()
    (tmp_path / "issues/01.md").write_text("# Find the answer\n")
    await run_git(["git", "init", "--quiet", str(tmp_path / "repository")])
    await run_git([*git, "commit", "--quiet", "--allow-empty", "--message", "first"])
    agent = str(root / "examples/workflow/tests/scripted_agent.py")
    config: dict[str, Any] = {name: str(tmp_path / name) for name in ("issues", "repository", "worktrees")}
    config |= {"agent": "coder", "test_argv": ["grep", "42", "answer.txt"]}
    async with running(tmp_path / "state", env={"PYTHONPATH": str(installed)}) as daemon, daemon.client() as house:
        coder = {"argv": [sys.executable, agent], "cwd": str(tmp_path)}
        await house.spawn(NewEngine(kind="process", id="coder", config=coder))
        await house.spawn(NewEngine(kind="workflow", id="flow", config=config))
        run, _ = await house.submit("flow", NewRun(input=None))
        async with house.events(Filter(run=run.id, types=("request.opened",)), after="0") as events:
            with trio.fail_after(60):
                await events.receive()
        # The daemon dies while a person thinks; the question is the same one afterwards, and is asked once.
        (before,) = (await house.requests()).items
        await daemon.kill()
        await daemon.start()
        (after,) = (await house.requests()).items
        assert (after.id, after.digest) == (before.id, before.digest)
        await house.command("flow", Approve(request_id=after.id, digest=after.digest))
        async with house.events(Filter(run=run.id), after="0") as events:
            with trio.fail_after(60):
                while all(frame.event != "end" for frame in await events.receive()):
                    pass
        done = await house.run(run.id)
        assert done.status == "completed", done.error
        shown = await run_git([*git, "show", f"{done.result['branch']}:answer.txt"])
        assert shown.stdout == b"42\n"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_passes_its_own_tests(example: str, installed: Path, root: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(root)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        command, cwd=root / "examples" / example, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
