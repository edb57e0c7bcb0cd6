"""The kind `workflow`: an issue is planned, the plan approved, done by an agent on a branch, and tested."""

from enginehouse_workflow.engine import Workflow

__all__ = ["Workflow"]
