"""The engine. One run is one issue: picked, planned, approved, done on a branch, tested, reported.

What was reached is in slices that name their run (`issue`, `plan`, `branch`), and what the agent was given is found
again by its key; so a run that is tried again, after a pause that interrupted it, a crash or a restart of the daemon,
goes on where it was: no plan is made twice, nobody is asked twice, and no branch is made twice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import trio
from pydantic import AfterValidator, Field

from actors import CannotStart, Config, Context, Engine, RunContext, RunFailed, RunInput
from actors.children import ResourceLimits
from actors.engines.programs import Environment, Word
from actors.engines.programs import ended as how_it_ended
from enginehouse_workflow import issues, words, worktree
from enginehouse_workflow.issues import Issue
from enginehouse_workflow.programs import Ended, git, ran
from protocol.errors import EnginehouseError, NotFound
from protocol.requests import APPROVE, REJECT, Option, OptionKind, RequestKind
from protocol.specs import OnInterrupt

__all__ = ["Workflow", "WorkflowConfig"]

PLAN_CHARS = 30_000
"""The most of a plan that people are shown; a longer one is refused, for nobody would read it."""

SKIP = Option(id="skip", kind=OptionKind.SKIP, label="Skip this issue")


def absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"an absolute path is wanted, such as '/srv/repository', not {path!r}")
    return path


Folder = Annotated[str, Field(max_length=4096), AfterValidator(absolute)]


class WorkflowConfig(Config):
    """`issues`, `repository`, `worktrees`: absolute paths. `agent`: the id of an engine of the same pool that takes a
    text as a run and gives a text (kinds `acp`, `agent`, and others); it must be able to work below `worktrees`.
    `base`: what a branch begins at. `repairs`: how often the agent may mend what the tests find. `env`, `limits`: of
    the tests.
    """

    issues: Folder
    repository: Folder
    worktrees: Folder
    agent: Annotated[str, Field(min_length=1, max_length=128)]
    test_argv: Annotated[tuple[Word, ...], Field(min_length=1, max_length=256)]
    test_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 1800.0
    base: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")] = "HEAD"
    repairs: Annotated[int, Field(ge=0, le=10)] = 2
    env: Environment = Field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()


class Workflow(Engine):
    kind = "workflow"
    description = "Takes an issue to a tested branch, with an agent and a person's approval."
    Config = WorkflowConfig
    Input: ClassVar[Any] = Annotated[str, Field(pattern=issues.NAME)] | None
    emits = ("workflow.picked", "workflow.planned", "workflow.decided", "workflow.tested", "workflow.reported")
    on_interrupt = OnInterrupt.RETRY

    async def on_start(self, ctx: Context) -> None:
        for folder in (self.config.issues, self.config.repository):
            if not await trio.Path(folder).is_dir():
                raise CannotStart(f"There is no folder {folder!r}.")
        try:
            await git(ctx, self.config.repository, "rev-parse", "--git-dir")
        except RunFailed as failed:
            raise CannotStart(
                f"{self.config.repository!r} cannot be used as a Git repository: {failed.detail}"
            ) from None
        await trio.Path(self.config.worktrees).mkdir(parents=True, exist_ok=True)
        if ctx.slice("stats") is None:
            ctx.update("stats", dict.fromkeys(("done", "skipped", "failed", "plans", "rejections", "test_runs"), 0))

    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        try:
            return await self.resolve(ctx, run)
        except RunFailed:
            self.count(ctx, "failed")
            raise

    async def resolve(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        """The whole story of one issue."""
        issue = await self.pick(ctx, run)
        agreed = await self.agree(ctx, run, issue)
        if agreed is None:
            await self.report(ctx, issue, "skipped", "Skipped by a person; nothing was changed.")
            return {"issue": issue.name, "outcome": "skipped"}
        branch = await self.branch(ctx, run, issue)
        summary = await self.ask_agent(ctx, words.work(issue, agreed, branch["folder"]), key="work")
        rounds = await self.test(ctx, issue, branch)
        commit = await self.commit(ctx, issue, branch)
        await self.report(ctx, issue, "done", words.report(branch, commit, rounds, summary))
        return {
            "issue": issue.name, "outcome": "done", "branch": branch["name"], "commit": commit, "test_rounds": rounds,
            "summary": summary,
        }  # fmt: skip

    # -- the steps, in order -----------------------------------------------------------------------------------------
    async def pick(self, ctx: RunContext, run: RunInput) -> Issue:
        """The issue that was named, or the next open one; in another attempt what this run picked, as it was then,
        since what the agent and people were asked is found again by the same words.
        """
        await ctx.pause_point()
        picked = self.kept(ctx, "issue", run)
        name = run.input or picked.get("name")
        try:
            if name is None:
                issue = await trio.to_thread.run_sync(issues.next_open, self.config.issues)
            else:
                issue = await trio.to_thread.run_sync(issues.read, self.config.issues, name)
        except ValueError as error:
            raise RunFailed("no-issue", f"There is no such issue: {error}.") from None
        if issue is None:
            raise RunFailed("no-issue", f"No issue in {self.config.issues} is open.")
        if picked:
            return replace(issue, title=picked["title"], text=picked["text"])
        if issue.status != "open":
            raise RunFailed(
                "issue-closed",
                f"{issue.name} is closed: a line of {Path(self.config.issues, issue.name)}.md says `status: "
                f"{issue.status}`. To open it again, make that `status: open`.",
            )
        ctx.update("issue", {"run_id": run.id, "name": issue.name, "title": issue.title, "text": issue.text})
        await ctx.emit("workflow.picked", {"issue": issue.name, "title": issue.title})
        return issue

    async def agree(self, ctx: RunContext, run: RunInput, issue: Issue) -> str | None:
        """The plan that a person approved; None: they skip the issue. A rejection with feedback makes another plan."""
        plan = self.kept(ctx, "plan", run) or {
            "run_id": run.id, "issue": issue.name, "revision": 0, "status": "wanted", "text": "", "feedback": []
        }  # fmt: skip
        while plan["status"] not in ("approved", "skipped"):
            if plan["status"] != "proposed":
                plan = await self.propose(ctx, issue, plan)
            asked = {name: plan[name] for name in ("issue", "revision", "text")}
            decided = await ctx.ask_human(
                f"Carry out this plan for {issue.title!r}?", kind=RequestKind.APPROVAL, detail=plan["text"],
                options=(APPROVE, REJECT, SKIP),
                action=asked | {"repository": self.config.repository, "test_argv": list(self.config.test_argv)},
            )  # fmt: skip
            status = {"approve": "approved", "reject": "rejected", "skip": "skipped"}[decided.option or "reject"]
            feedback = [*plan["feedback"], decided.comment or "No reason was given."]
            plan = plan | {"status": status, "feedback": feedback if status == "rejected" else plan["feedback"]}
            ctx.update("plan", plan)
            await ctx.emit("workflow.decided", {"revision": plan["revision"], "status": status, "by": decided.by})
            if status == "rejected":
                self.count(ctx, "rejections")
        return None if plan["status"] == "skipped" else str(plan["text"])

    async def propose(self, ctx: RunContext, issue: Issue, former: dict[str, Any]) -> dict[str, Any]:
        """The next revision of the plan."""
        revision = former["revision"] + 1
        text = await self.ask_agent(ctx, words.plan(issue, former, self.config.repository), key=f"plan-{revision}")
        if len(text) > PLAN_CHARS:
            raise RunFailed("plan-too-long", f"The agent's plan has {len(text)} characters; {PLAN_CHARS} may be shown.")
        plan = former | {"revision": revision, "status": "proposed", "text": text}
        ctx.update("plan", plan)
        await ctx.emit("workflow.planned", {"issue": issue.name, "revision": revision})
        self.count(ctx, "plans")
        return plan

    async def branch(self, ctx: RunContext, run: RunInput, issue: Issue) -> dict[str, Any]:
        """A branch and a worktree of this run's own."""
        name = f"{issue.name}-{run.id[-8:]}"
        branch: dict[str, Any] = {
            "run_id": run.id, "name": f"workflow/{name}", "folder": str(Path(self.config.worktrees, name)), "base": "",
            "noted": [], "failures": [], "passed": None, "commit": "",
        } | self.kept(ctx, "branch", run)  # fmt: skip
        if not branch["base"]:
            if await trio.Path(branch["folder"]).exists():  # made in an attempt that ended before it could say so
                await git(ctx, self.config.repository, "worktree", "remove", "--force", branch["folder"])
            base = await git(ctx, self.config.repository, "rev-parse", "--verify", f"{self.config.base}^{{commit}}")
            await git(ctx, self.config.repository, "worktree", "add", "-B", branch["name"], branch["folder"], base)
            self.keep(ctx, branch, base=base)
        return branch

    async def test(self, ctx: RunContext, issue: Issue, branch: dict[str, Any]) -> int:
        """Until they pass: the number of the round in which they did. What the agent left is noted before each round,
        and what the tests said is kept, and what they made taken back, before it is mended: so another attempt tests
        the same, and asks for the same.
        """
        folder = branch["folder"]
        if branch["passed"] is not None:
            return len(branch["noted"])
        for number in range(1, self.config.repairs + 2):
            if number > len(branch["noted"]):
                self.keep(ctx, branch, noted=[*branch["noted"], await worktree.note(ctx, folder)])
            elif number > len(branch["failures"]):  # tests that were interrupted
                await worktree.take_back(ctx, folder, branch["name"], branch["noted"][-1])
            if number > len(branch["failures"]):
                ended = await self.tested(ctx, issue, folder, number)
                if ended.code == 0:
                    self.keep(ctx, branch, passed=ended.last)
                    return number
                if number > self.config.repairs:
                    raise RunFailed("tests-failed", words.failed(number - 1, self.how(ctx, ended), folder, ended.last))
                await worktree.take_back(ctx, folder, branch["name"], branch["noted"][-1])
                self.keep(ctx, branch, failures=[*branch["failures"], ended.tail])
            await self.ask_agent(ctx, words.mend(issue, folder, branch["failures"][number - 1]), key=f"mend-{number}")
        raise AssertionError("the last round returns or raises")

    async def tested(self, ctx: RunContext, issue: Issue, folder: str, number: int) -> Ended:
        await ctx.pause_point()
        env = await ctx.environment(self.config.env)
        ended = await ran(
            ctx, self.config.test_argv, folder, env, timeout_s=self.config.test_timeout_s, limits=self.config.limits,
            show=ctx.output,
        )  # fmt: skip
        self.count(ctx, "test_runs")
        await ctx.emit("workflow.tested", {"issue": issue.name, "round": number, "code": ended.code})
        return ended

    def how(self, ctx: RunContext, ended: Ended) -> str:
        if ended.code is None:
            return f"did not end within {self.config.test_timeout_s:g} s"
        return how_it_ended(ended.code, starved=ctx.starved)

    async def commit(self, ctx: RunContext, issue: Issue, branch: dict[str, Any]) -> str:
        """What the agent changed, as one commit on the branch; then the worktree is not needed any more."""
        folder, repository = branch["folder"], self.config.repository
        if not branch["commit"]:
            message = f"{issue.title}\n\nIssue: {issue.name}"
            commit = await worktree.commit(ctx, repository, branch["name"], branch["noted"][-1], message)
            if commit == branch["base"]:
                raise RunFailed("nothing-changed", f"The agent changed nothing in {folder}.")
            self.keep(ctx, branch, commit=commit)
        if await trio.Path(folder).exists():
            await git(ctx, repository, "worktree", "remove", "--force", folder)
        return str(branch["commit"])

    async def report(self, ctx: RunContext, issue: Issue, status: str, text: str) -> None:
        if issue.status != status:  # else an attempt that ended before it could say so has written it
            await trio.to_thread.run_sync(partial(issues.close, self.config.issues, issue.name, status, text))
        await ctx.emit("workflow.reported", {"issue": issue.name, "status": status})
        self.count(ctx, status)

    # -- what they share ---------------------------------------------------------------------------------------------
    async def ask_agent(self, ctx: RunContext, text: str, *, key: str) -> str:
        """What the agent answers. Raises RunFailed when it does not."""
        try:
            done = await ctx.delegate(self.config.agent, text, key=key)
        except NotFound:
            raise RunFailed("agent-refused", words.no_agent(self.config.agent)) from None
        except EnginehouseError as error:
            raise RunFailed("agent-refused", f"The engine {self.config.agent} takes no run: {error.detail}") from None
        said = done.result.get("text") if isinstance(done.result, dict) else done.result
        if done.status != "completed" or not isinstance(said, str) or not said.strip():
            why = (done.error or {}).get("detail") or "it gave no text"
            raise RunFailed("agent-failed", f"The run {done.id} of {self.config.agent} is {done.status}: {why}")
        return said.strip()

    @staticmethod
    def kept(ctx: RunContext, slice: str, run: RunInput) -> dict[str, Any]:
        """What an earlier attempt of this run left; else nothing."""
        value = ctx.slice(slice)
        return dict(value) if value is not None and value["run_id"] == run.id else {}

    @staticmethod
    def keep(ctx: RunContext, branch: dict[str, Any], **reached: Any) -> None:
        """What was reached on the branch, also for the next attempt: durable before a program or the agent begins."""
        branch |= reached
        ctx.update("branch", dict(branch))

    @staticmethod
    def count(ctx: RunContext, what: str) -> None:
        stats = dict(ctx.slice("stats"))
        ctx.update("stats", stats | {what: stats[what] + 1})
