"""What the agent is told, and what people are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from enginehouse_workflow.issues import Issue

__all__ = ["failed", "mend", "no_agent", "plan", "report", "work"]


def plan(issue: Issue, former: Mapping[str, Any], repository: str) -> str:
    """For a plan; after a rejection with the former one and what people said."""
    asked = (
        f"Plan how to resolve the following issue of the Git repository in {repository}. Read what you need there, "
        "change nothing. Answer with the plan alone: the files to change, what changes in each, and how it is tested."
        f"\n\nIssue {issue.name}:\n\n{issue.text}"
    )
    if former["feedback"]:
        said = "\n".join(f"- {text}" for text in former["feedback"])
        asked += f"\n\nThis plan was rejected:\n\n{former['text']}\n\nWhat people said, the latest last:\n{said}"
    return asked


def work(issue: Issue, agreed: str, folder: str) -> str:
    """For the work itself."""
    return (
        f"Carry out the approved plan in the directory {folder}, which is a Git worktree made for it. Change files "
        f"there and nowhere else. Do not commit. When you are done, say in a few sentences what you changed."
        f"\n\nIssue {issue.name}:\n\n{issue.text}\n\nThe approved plan:\n\n{agreed}"
    )


def mend(issue: Issue, folder: str, output: str) -> str:
    """For another round, after tests that failed."""
    return (
        f"The tests fail in the directory {folder} after your changes for the issue {issue.name} ({issue.title}). "
        f"Mend that, in that directory and nowhere else, without weakening the tests. Do not commit. The end of their "
        f"output:\n\n{output}"
    )


def failed(repairs: int, how: str, folder: str, last: str) -> str:
    """Why the run failed, when the tests did. `how` they ended, as the end of a sentence; `last`: what they said."""
    said = f"The end of their output:\n{last}" if last else "They said nothing."
    return f"After {repairs} repairs the tests {how}; the work is in {folder}. {said}"


def no_agent(agent: str) -> str:
    """For a run whose agent nobody has spawned."""
    return (
        f"There is no engine {agent!r} in this pool, which the config names as `agent`: spawn it, or spawn this one "
        "anew with another."
    )


def report(branch: Mapping[str, Any], commit: str, rounds: int, summary: str) -> str:
    """For the issue that is done, in Markdown."""
    told = f"Branch `{branch['name']}`, commit `{commit}`; the tests passed, in round {rounds}.\n\n{summary}"
    if branch["passed"]:
        told += f"\n\nThe end of the tests' output:\n\n{textwrap.indent(branch['passed'], '    ')}"
    return told
