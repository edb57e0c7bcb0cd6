"""examples/workflow with a real agent: from an issue to a tested branch, and people decide what is done."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from protocol.commands import Approve, Reject
from supervisor import NewEngine, NewRun
from tests.agents.cast import Actor
from tests.agents.stage import on_stage
from tests.agents.table import Table
from tests.e2e.examples import install
from tests.models.script import Say

pytestmark = pytest.mark.agents

ISSUE = "# Know the answer\n\n`answer.py` shall have it.\n"
CHECK = """\
import unittest
from answer import ANSWER

class Answer(unittest.TestCase):
    def test_answer(self):
        self.assertEqual(ANSWER, 42)
"""


@pytest.fixture(scope="session")
def workflow(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(["workflow"], root, tmp_path_factory.mktemp("workflow"))


async def test_an_issue_becomes_a_tested_branch(
    actor: Actor, programs: Path, workflow: Path, table: Table, tmp_path: Path
) -> None:
    with table.deed(actor.preset, "issue"):
        async with on_stage(actor, tmp_path, {"PYTHONPATH": str(workflow)}) as stage:
            await stage.begin(programs)
            await furnish(stage.workspace)
            model, house = stage.endpoint, stage.house
            model.reply("I guess it.", "I compute it, and test it.", when="Plan how to resolve", tools=True)
            places = {name: str(stage.workspace / name) for name in ("issues", "repository", "worktrees")}
            tests = [sys.executable, "-B", "-m", "unittest", "-q"]
            await house.spawn(
                NewEngine(kind="workflow", id="flow", config={**places, "agent": "agent", "test_argv": tests})
            )
            run = (await house.submit("flow", NewRun(input=None)))[0].id
            made = stage.workspace / f"worktrees/01-answer-{run[-8:]}/answer.py"
            work = (Say(actor.write(made, "ANSWER = 41\n")), "I wrote answer.py.")
            model.reply(*work, when="Carry out the approved plan", tools=True)
            model.reply(Say(actor.write(made, "ANSWER = 42\n")), "I mended it.", when="The tests fail in", tools=True)

            # The first plan is rejected; the next one is made with what was said, and approved.
            first = await stage.asked("flow")
            assert first.action["text"].endswith("I guess it.")
            await house.command("flow", Reject(feedback="Do not guess.", request_id=first.id))
            await stage.until(run, lambda info: info.status != "waiting")
            second = await stage.asked("flow")
            assert second.action["revision"] == 2
            assert second.action["text"].endswith("I compute it, and test it.")
            assert any("- Do not guess." in asked.text and "I guess it." in asked.text for asked in model.asked)
            assert not made.parent.exists(), "nothing is done before the approval"
            await house.command("flow", Approve(request_id=second.id, digest=second.digest))

            # The agent asks before it writes, in the name of who began it all; the tests find what it did wrong.
            permission = await stage.asked()
            assert permission.kind == "permission"
            assert str(made) in str(permission.action)
            assert set(second.asked_by) <= set(permission.asked_by)
            assert not made.exists(), "nothing is written before the permission"
            await stage.decide("allow_once")
            await stage.until(run, lambda info: info.status != "waiting")
            await stage.decide("allow_once")

            done = await stage.ended(run)
            assert done.status == "completed", done.error
            result, branch = done.result, await stage.slice("branch", "flow")
            assert (result["outcome"], result["test_rounds"], result["branch"]) == ("done", 2, branch["name"])
            assert result["summary"].endswith("I wrote answer.py.")
            told = (await house.output(run))[0]
            assert b"41 != 42" in told
            assert told.rstrip().endswith(b"OK")

            git = partial(run_git, stage.workspace)
            assert await git("show", f"{branch['name']}:answer.py") == "ANSWER = 42"
            assert await git("diff", "--name-status", "HEAD", branch["name"]) == "A\tanswer.py"
            assert await git("log", "--format=%s", f"HEAD..{branch['name']}") == "Know the answer"
            assert await git("status", "--porcelain") == ""
            assert await git("rev-parse", branch["name"]) == branch["commit"] == result["commit"]
            assert not made.parent.exists(), "the worktree is not needed any more"

            closed = (stage.workspace / "issues/01-answer.md").read_text()
            assert closed.startswith("# Know the answer\n\nstatus: done\n")
            assert f"## Report\n\nBranch `{branch['name']}`, commit `{branch['commit']}`" in closed
            issue, plan, stats = [await stage.slice(name, "flow") for name in ("issue", "plan", "stats")]
            assert issue == {"run_id": run, "name": "01-answer", "title": "Know the answer", "text": ISSUE}
            assert (plan["revision"], plan["status"], plan["feedback"]) == (2, "approved", ["Do not guess."])
            assert "41 != 42" in branch["failures"][0]
            counted = {"done": 1, "skipped": 0, "failed": 0, "plans": 2, "rejections": 1, "test_runs": 2}
            assert stats == counted
            assert await stage.dispose() == []


async def furnish(workspace: Path) -> None:
    """A repository whose test fails, and an issue that says so."""
    for name in ("issues", "repository", "worktrees"):
        (workspace / name).mkdir()
    (workspace / "issues/01-answer.md").write_text(ISSUE)
    (workspace / "repository/test_answer.py").write_text(CHECK)
    for args in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        await run_git(workspace, *args)


async def run_git(workspace: Path, *args: str) -> str:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(workspace / "repository")]
    return (await trio.run_process([*git, *args], capture_stdout=True)).stdout.decode().strip()
