"""examples/workflow with an engine of kind `agent`: what the model wants to do is asked in the name of who began it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

from protocol.commands import Approve
from supervisor import Caller, Filter, NewEngine, NewPool, NewRun, ReplyBody, SqliteStore, open_supervisor
from tests.models.endpoint import open_endpoint
from tests.models.script import Call, Say

ANN, BOB = Caller(principal="user:ann"), Caller(principal="user:bob")


async def test_a_model_takes_an_issue_to_a_branch(root: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(root / "examples/workflow"))
    try:
        from enginehouse_workflow import Workflow
    finally:
        sys.path.remove(str(root / "examples/workflow"))
    for name in ("issues", "worktrees"):
        (tmp_path / name).mkdir()
    (tmp_path / "issues/01.md").write_text("# Find the answer\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(tmp_path / "repository")]
    run_git = partial(trio.run_process, capture_stdout=True)
    await run_git(["git", "init", "--quiet", str(tmp_path / "repository")])
    await run_git([*git, "commit", "--quiet", "--allow-empty", "--message", "first"])
    config = {name: str(tmp_path / name) for name in ("issues", "repository", "worktrees")}
    flow = {**config, "agent": "coder", "test_argv": ["grep", "42", "answer.txt"]}
    async with (
        open_endpoint() as endpoint,
        open_supervisor(
            store=SqliteStore(tmp_path / "journal.db"), kinds=[Workflow], directory=tmp_path / "state"
        ) as house,
    ):
        endpoint.reply("I shall write answer.txt.", when="Plan how to resolve")
        write = Call("shell", {"command": "for folder in 01-*; do echo 42 > $folder/answer.txt; done"})
        endpoint.reply(Say(write), "I wrote it.", when="Carry out the approved plan")
        await house.create_pool(NewPool(id="four", four_eyes=True))
        model = {"shape": "anthropic", "model": "test-model", "base_url": endpoint.url}
        coder = {"cwd": str(tmp_path / "worktrees"), "model": model}
        await house.spawn(NewEngine(kind="agent", id="coder", pool="four", config=coder))
        await house.spawn(NewEngine(kind="workflow", id="flow", pool="four", config=flow))
        run, _ = await house.submit("flow", NewRun(input=None), ANN)
        with trio.fail_after(60):
            async with house.events(Filter(types=("request.opened",)), after="0") as events:
                await events.receive()
                (plan,) = (await house.requests(engine="flow")).items
                assert plan.action["text"] == "I shall write answer.txt."
                await house.command("flow", Approve(), BOB)
                await events.receive()
                (permission,) = (await house.requests(engine="coder")).items
                assert "user:ann" in permission.asked_by  # so ann, who began it all, cannot allow it
                allow = next(option["id"] for option in permission.options if option["kind"] == "allow_once")
                await house.reply(permission.id, ReplyBody(option=allow), BOB)
            async with house.events(Filter(run=run.id), after="0") as events:
                while all(frame.event != "end" for frame in await events.receive()):
                    pass
        done = await house.run(run.id)
        assert done.status == "completed", done.error
        assert done.result["summary"] == "I wrote it."
        shown = await run_git([*git, "show", f"{done.result['branch']}:answer.txt"])
        assert shown.stdout == b"42\n"
