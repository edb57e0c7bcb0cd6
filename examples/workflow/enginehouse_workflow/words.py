"""What the agent is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enginehouse_workflow.issues import Issue

__all__ = ["mend", "plan", "work"]


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
