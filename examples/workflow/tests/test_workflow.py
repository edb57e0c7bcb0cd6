"""An issue on its way, with a real repository, real tests of it, and an agent that is a program of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from enginehouse_workflow import Workflow, issues

from protocol.commands import Approve, Cancel, Reject, Skip, Stop
from protocol.specs import OnInterrupt, PauseMode
from protocol.wire import RunInfo
from supervisor import EmbeddedHouse, Filter, NewEngine, NewRun, SqliteStore, open_supervisor

AGENT = Path(__file__).with_name("scripted_agent.py")
TESTS = "import pathlib, sys; sys.exit('not 42' if pathlib.Path('answer.txt').read_text() != '42\\n' else 0)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A repository with one commit, and two issues."""
    for name in ("repository", "issues"):
        (tmp_path / name).mkdir()
    for name in ("README", "old"):
        (tmp_path / "repository" / name).write_text("the answer\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "first")
    (tmp_path / "issues/01-answer.md").write_text("# Find the answer\n\nIt is a number.\n")
    (tmp_path / "issues/02-later.md").write_text("# Later\nstatus: done\n")
    return tmp_path


def git(place: Path, *args: str) -> str:
    ran = subprocess.run(["git", *args], cwd=place / "repository", check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@asynccontextmanager
async def opened(place: Path, **config: Any) -> AsyncIterator[EmbeddedHouse]:
    store = SqliteStore(place / "journal.db")
    async with open_supervisor(store=store, kinds=[Workflow], directory=place / "state", grace_s=2) as house:
        agent = {"argv": [sys.executable, str(AGENT)], "cwd": str(place)}
        await house.put("coder", NewEngine(kind="process", id="coder", config=agent, on_interrupt=OnInterrupt.RETRY))
        config = {
            "issues": str(place / "issues"), "repository": str(place / "repository"), "agent": "coder",
            "worktrees": str(place / "worktrees"), "test_argv": [sys.executable, "-c", TESTS], **config,
        }  # fmt: skip
        await house.put("flow", NewEngine(kind="workflow", id="flow", config=config))
        yield house


async def begun(house: EmbeddedHouse, issue: str | None = None) -> str:
    run, _ = await house.submit("flow", NewRun(input=issue))
    return run.id


async def asked(house: EmbeddedHouse, run: str, times: int = 1) -> Any:
    """The plan that waits for a person: the `times`th of the run."""
    async with house.events(Filter(run=run, types=("request.opened",)), after="0") as events:
        seen = 0
        with trio.fail_after(60):
            while seen < times:
                seen += len(await events.receive())
    (request,) = (await house.requests(engine="flow")).items
    return request


async def ended(house: EmbeddedHouse, run: str) -> RunInfo:
    async with house.events(Filter(run=run), after="0") as events:
        with trio.fail_after(60):
            while all(frame.event != "end" for frame in await events.receive()):
                pass
    return await house.run(run)


async def stats(house: EmbeddedHouse) -> dict[str, int]:
    value = (await house.slice("flow", "stats")).value
    return {name: count for name, count in value.items() if count}


async def test_an_approved_plan_becomes_a_tested_commit_on_a_branch(place: Path) -> None:
    async with opened(place) as house:
        run = await begun(house)
        request = await asked(house, run)
        assert request.action["text"] == "Plan 1: write answer.txt"
        assert git(place, "branch", "--list", "workflow/*") == ""  # nothing is done before somebody agreed
        await house.command("flow", Approve())
        done = await ended(house, run)
        assert done.status == "completed", done.error
        assert done.result["outcome"] == "done"
        assert done.result["test_rounds"] == 1
        branch = done.result["branch"]
        assert git(place, "show", f"{branch}:answer.txt") == "42"
        assert git(place, "log", "-1", "--format=%s", branch) == "Find the answer"
        assert git(place, "status", "--porcelain") == ""
        assert git(place, "rev-parse", "--abbrev-ref", "HEAD") == "main"
        assert list((place / "worktrees").iterdir()) == []
        text = (place / "issues/01-answer.md").read_text()
        assert text.startswith("# Find the answer\n\nstatus: done\n\nIt is a number.\n\n## Report\n")
        assert await stats(house) == {"done": 1, "plans": 1, "test_runs": 1}
        plan = (await house.slice("flow", "plan")).value
        assert (plan["status"], plan["revision"]) == ("approved", 1)
        nothing = await ended(house, await begun(house))
        assert nothing.error is not None
        assert nothing.error["slug"] == "no-issue"


async def test_a_rejection_makes_another_plan(place: Path) -> None:
    async with opened(place) as house:
        run = await begun(house, "01-answer")
        await asked(house, run)
        await house.command("flow", Reject(feedback="Please be careful."))
        request = await asked(house, run, times=2)
        assert request.action["text"] == "Plan 2: write answer.txt, carefully"
        assert request.action["revision"] == 2
        await house.command("flow", Approve())
        assert (await ended(house, run)).status == "completed"
        assert await stats(house) == {"done": 1, "plans": 2, "rejections": 1, "test_runs": 1}


async def test_an_issue_may_be_skipped(place: Path) -> None:
    async with opened(place) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Skip())
        done = await ended(house, run)
        assert done.result == {"issue": "01-answer", "outcome": "skipped"}
        assert "status: skipped" in (place / "issues/01-answer.md").read_text()
        assert git(place, "branch", "--list", "workflow/*") == ""


async def test_what_the_tests_find_is_mended(place: Path) -> None:
    (place / "issues/01-answer.md").write_text("# Answer\n\nThe first try fails.\n".replace("The first", "A first"))
    async with opened(place) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        done = await ended(house, run)
        assert done.result["test_rounds"] == 2
        assert b"not 42" in (await house.output(run))[0]
        assert git(place, "show", f"{done.result['branch']}:answer.txt") == "42"


LEAVING = """\
import pathlib, subprocess
pathlib.Path('made/by').mkdir(parents=True, exist_ok=True)
pathlib.Path('made/by/tests.pyc').write_text(str(pathlib.Path('README').stat()))
pathlib.Path('README').write_text('changed by the tests')
pathlib.Path('old').unlink(missing_ok=True)
subprocess.run(['git', 'add', '--all'], check=True)
me = ['-c', 'user.name=t', '-c', 'user.email=t@localhost']
subprocess.run(['git', *me, 'commit', '--allow-empty', '-qm', 'of the tests'], check=True)
pathlib.Path('later').mkdir(exist_ok=True)
pathlib.Path('later/.gitignore').write_text('*.o')
pathlib.Path('later/hidden.o').touch()
"""


@pytest.mark.parametrize("first", ["A first try fails", "x"])
async def test_what_only_the_tests_made_or_changed_is_not_committed(first: str, place: Path) -> None:
    (place / "issues/01-answer.md").write_text(f"# Answer\n\n{first}\n")
    async with opened(place, test_argv=[sys.executable, "-c", LEAVING + TESTS]) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        done = await ended(house, run)
        assert done.status == "completed", done.error
        assert git(place, "diff", "--name-status", "main", done.result["branch"]) == "A\tanswer.txt"
        assert git(place, "log", "--format=%s", f"main..{done.result['branch']}") == "Answer"
        assert git(place, "show", f"{done.result['branch']}:answer.txt") == "42"


@pytest.mark.parametrize("number", [1, 2])
async def test_what_interrupted_tests_left_behind_is_not_committed(number: int, place: Path) -> None:
    """The house goes away when the tests have made their mess, in this round of them, and hold a lock of Git."""
    (place / "issues/01-answer.md").write_text("# Answer\n\nA first try fails\n")
    gate = place / "gate"
    wait = f"""
import time
if pathlib.Path('answer.txt').read_text().strip() == '{40 + number}' and not pathlib.Path({str(gate)!r}).exists():
    lock = subprocess.run(['git', 'rev-parse', '--git-path', 'index.lock'], capture_output=True, text=True).stdout
    pathlib.Path(lock.strip()).touch()
    print('locked', flush=True)
    time.sleep(60)
"""
    config = {"test_argv": [sys.executable, "-c", LEAVING + wait + TESTS]}
    async with opened(place, **config) as house:
        run = await begun(house)
        await asked(house, run)
        async with house.events(Filter(run=run, types=("run.output",))) as events:
            await house.command("flow", Approve())
            with trio.fail_after(60):
                while all("locked" not in str(frame.data) for frame in await events.receive()):
                    pass
    gate.touch()
    async with opened(place, **config) as house:
        done = await ended(house, run)
        assert done.status == "completed", done.error
        assert done.result["test_rounds"] == 2
        assert git(place, "diff", "--name-status", "main", done.result["branch"]) == "A\tanswer.txt"
        assert git(place, "log", "--format=%s", f"main..{done.result['branch']}") == "Answer"


async def test_a_worktree_that_is_none_any_more_never_means_the_repository_around_it(place: Path) -> None:
    (place / "repository/precious").touch()
    argv = [sys.executable, "-c", "import pathlib, sys; pathlib.Path('.git').unlink(); sys.exit(1)"]
    async with opened(place, test_argv=argv, worktrees=str(place / "repository/worktrees")) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        failed = await ended(house, run)
        assert failed.error is not None
        assert failed.error["slug"] == "git-failed"
        assert git(place, "rev-parse", "--abbrev-ref", "HEAD") == "main"
        assert (place / "repository/precious").exists()


@pytest.mark.parametrize("written", [False, True])
async def test_a_report_that_was_interrupted_is_made_once_and_of_the_same_commit(
    written: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worktree is gone by then: nothing is tested again."""
    close = issues.close

    def no_space(*args: str) -> None:
        monkeypatch.setattr(issues, "close", close)
        if written:
            close(*args)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(issues, "close", no_space)
    async with opened(place) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        done = await ended(house, run)
        assert done.status == "completed", done.error
        assert done.attempts == 2
        assert git(place, "log", "--format=%s", f"main..{done.result['branch']}") == "Find the answer"
        text = (place / "issues/01-answer.md").read_text()
        assert text.count("## Report") == 1
        assert f"commit `{done.result['commit']}`" in text
        assert await stats(house) == {"done": 1, "plans": 1, "test_runs": 1}


@pytest.mark.parametrize(
    "issue, config, slug",
    [
        ("A first try fails", {"repairs": 0}, "tests-failed"),
        ("changes nothing", {"test_argv": ["true"]}, "nothing-changed"),
        ("x", {"agent": "nobody"}, "agent-refused"),
        ("x", {"agent": "flow"}, "agent-refused"),
        ("x", {"test_argv": ["/no/such/program"]}, "cannot-run"),
        ("x", {"base": "no-such-branch"}, "git-failed"),
    ],
)
async def test_what_cannot_be_done_fails_the_run_alone(
    issue: str, config: dict[str, Any], slug: str, place: Path
) -> None:
    (place / "issues/01-answer.md").write_text(f"# Answer\n\n{issue}\n")
    async with opened(place, **config) as house:
        run = await begun(house)
        if slug != "agent-refused":
            await asked(house, run)
            await house.command("flow", Approve())
        failed = await ended(house, run)
        assert failed.error is not None
        assert failed.error["slug"] == slug, failed.error
        assert (await house.get("flow")).state == "running"
        assert "status:" not in (place / "issues/01-answer.md").read_text()


async def test_it_goes_on_in_the_next_house_without_asking_twice(place: Path) -> None:
    """A house that goes away in the middle of the tests: the plan stays approved, the branch stays the one."""
    gate = place / "gate"
    slow = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n{TESTS}"
    config = {"test_argv": [sys.executable, "-c", slow]}
    async with opened(place, **config) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        async with house.events(
            Filter(engine="flow", slices=("branch",), types=("state.patched",)), after="0"
        ) as events:
            await events.receive()
    gate.touch()
    with (place / "issues/01-answer.md").open("a") as file:
        file.write("\nA remark that somebody adds meanwhile.\n")
    async with opened(place, **config) as house:
        done = await ended(house, run)
        assert done.status == "completed", done.error
        assert done.attempts == 2
        assert "meanwhile" in (place / "issues/01-answer.md").read_text()
        assert await stats(house) == {"done": 1, "plans": 1, "test_runs": 1}
        rows = await house.event_page(Filter(run=run, types=("request.opened",)), after="0", limit=100)
        assert len(rows.items) == 1
        assert len(git(place, "branch", "--list", "workflow/*").splitlines()) == 1


@pytest.mark.parametrize("mode", [PauseMode.SOFT, PauseMode.INTERRUPT])
async def test_it_can_be_paused_while_it_waits_for_a_person(mode: PauseMode, place: Path) -> None:
    async with opened(place) as house:
        run = await begun(house)
        await asked(house, run)
        await house.pause("flow", mode=mode, wait_s=20)
        assert (await house.get("flow")).state == "paused"
        await house.command("flow", Approve())
        assert (await house.slice("flow", "plan")).value["status"] == "proposed"
        await house.resume("flow", wait_s=20)
        assert (await ended(house, run)).status == "completed"
        assert (await stats(house))["plans"] == 1


async def test_stop_gives_the_issue_up_and_the_next_run_begins_anew(place: Path) -> None:
    config = {"test_argv": [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]}
    async with opened(place, **config) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Stop(), wait_s=20)
        assert (await ended(house, run)).status == "cancelled"
        assert (await house.requests()).items == []
        assert not (place / "worktrees").exists() or list((place / "worktrees").iterdir()) == []
        await house.start("flow")
        run = await begun(house)
        await asked(house, run)
        async with house.events(Filter(run=run, types=("run.output",))) as events:
            await house.command("flow", Approve())
            with trio.fail_after(60):
                await events.receive()
        await house.command("flow", Stop(), wait_s=20)
        assert (await ended(house, run)).status == "cancelled"
        (folder,) = (place / "worktrees").iterdir()
        assert (folder / "answer.txt").read_text() == "42\n"
        assert git(place, "branch", "--list", "workflow/*", "--format=%(refname:short)") == f"workflow/{folder.name}"
        assert "status:" not in (place / "issues/01-answer.md").read_text()


@pytest.mark.parametrize("status", ["done", "skipped", "Later"])
async def test_a_closed_issue_is_refused_by_name_until_somebody_opens_it(status: str, place: Path) -> None:
    issue = place / "issues/02-later.md"
    issue.write_text(f"# Later\n\nstatus: {status}\n")
    async with opened(place) as house:
        refused = await ended(house, await begun(house, "02-later"))
        assert refused.error == {
            "slug": "issue-closed",
            "detail": f"02-later is closed: a line of {issue} says `status: {status.lower()}`. To open it again, make "
            "that `status: open`.",
        }
        issue.write_text("# Later\n\nstatus: open\n")
        run = await begun(house, "02-later")
        await asked(house, run)
        await house.command("flow", Skip())
        assert (await ended(house, run)).status == "completed"
        assert issue.read_text().startswith("# Later\n\nstatus: skipped\n")


@pytest.mark.parametrize(
    "code, how",
    [
        ("print('it is 41'); sys.exit(2)", "ended with exit status 2"),
        ("print('it is 41', flush=True); os.kill(os.getpid(), 9)", "ended with signal 9 (Killed)"),
        ("print('it is 41', flush=True); time.sleep(60)", "did not end within 1 s"),
    ],
)
async def test_tests_that_fail_say_how_and_show_the_end_of_their_output(code: str, how: str, place: Path) -> None:
    argv = [sys.executable, "-c", f"import os, sys, time; {code}"]
    async with opened(place, test_argv=argv, test_timeout_s=1.0, repairs=0) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        error = (await ended(house, run)).error
        (folder,) = (place / "worktrees").iterdir()
        assert error == {
            "slug": "tests-failed",
            "detail": f"After 0 repairs the tests {how}; the work is in {folder}. The end of their output:\nit is 41",
        }


async def test_a_report_shows_the_end_of_what_the_tests_said(place: Path) -> None:
    argv = [sys.executable, "-c", "for n in range(100): print('status: line', n)"]
    async with opened(place, test_argv=argv) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Approve())
        assert (await ended(house, run)).status == "completed"
        text = (place / "issues/01-answer.md").read_text()
        assert "\n\nThe end of the tests' output:\n\n    status: line 80\n" in text
        assert text.endswith("    status: line 99\n")


@pytest.mark.parametrize("folder", ["plain", "repository/within"])
async def test_a_folder_that_is_no_repository_fails_the_engine(folder: str, place: Path) -> None:
    (place / folder).mkdir()
    async with opened(place, repository=str(place / folder)) as house:
        async with house.events(Filter(engine="flow", types=("engine.failed",)), after="0") as events:
            with trio.fail_after(60):
                await events.receive()
        flow = await house.get("flow")
        assert flow.state == "failed"
        assert flow.last_exit is not None
        assert f"{str(place / folder)!r} cannot be used as a Git repository: git rev-parse failed" in str(
            flow.last_exit["error"]
        )


async def test_an_agent_that_is_not_there_is_named_with_what_to_do(place: Path) -> None:
    async with opened(place, agent="nobody") as house:
        failed = await ended(house, await begun(house))
        assert failed.error == {
            "slug": "agent-refused",
            "detail": "There is no engine 'nobody' in this pool, which the config names as `agent`: spawn it, or spawn "
            "this one anew with another.",
        }


@pytest.mark.parametrize("path", ["worktrees", "./x", "~/x", ""])
def test_a_relative_path_is_refused_in_a_sentence(path: str) -> None:
    config = {"issues": "/i", "repository": "/r", "worktrees": path, "agent": "a", "test_argv": ["true"]}
    with pytest.raises(ValueError, match=f"an absolute path is wanted, such as '/srv/repository', not {path!r}"):
        Workflow.Config.model_validate(config)


async def test_a_cancelled_run_leaves_no_question(place: Path) -> None:
    async with opened(place) as house:
        run = await begun(house)
        await asked(house, run)
        await house.command("flow", Cancel(run_id=run), wait_s=20)
        assert (await ended(house, run)).status == "cancelled"
        assert (await house.requests()).items == []


def test_the_scripted_agent_is_a_program(place: Path) -> None:
    ran = subprocess.run([sys.executable, str(AGENT)], input="", capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(ran.stdout) == {"type": "hello", "protocol": 1}
