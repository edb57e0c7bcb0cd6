"""Who watches a house at work: a program's metrics, logs and traces hear here what they need, and decide nothing.

Everything in here is called in the trio thread, in the middle of what the house does. It must be quick and must not
raise, await, or change anything of the house.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from protocol.events import Row
from protocol.specs import Spec
from protocol.trace import Trace
from protocol.view import View

__all__ = ["Observer", "Unobserved"]


class Observer(Protocol):
    """See the module."""

    def folded(self, row: Row, view: View) -> None:
        """A row of an engine is durable, and `view` is the engine after it; called for each, in the journal's order.
        What a run does comes after its `run.started` was seen here.
        """

    def inside(self, spec: Spec, run_id: str | None) -> AbstractContextManager[None]:
        """Entered around an engine's own code, once in its task and once in the task of each run: for context
        variables. Left in the same task.
        """

    def trace(self, run_id: str) -> Trace | None:
        """What the programs of this run in hand are told of the trace that they belong to."""

    def spawned(self, run_id: str, name: str, pid: int) -> None:
        """A run has started a program."""


class Unobserved:
    """Nobody watches."""

    def folded(self, row: Row, view: View) -> None:
        return

    def inside(self, spec: Spec, run_id: str | None) -> AbstractContextManager[None]:
        return nullcontext()

    def trace(self, run_id: str) -> Trace | None:
        return None

    def spawned(self, run_id: str, name: str, pid: int) -> None:
        return
