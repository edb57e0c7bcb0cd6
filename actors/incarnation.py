"""One incarnation: what exists from boot to exit, and the gate through which everything in it goes on.

Three kinds of scope live here, and only the cell cancels them: the incarnation's own (shielded; its deadline is the one
shrinking budget of stop, dispose and shutdown), the run's, and those of the pausable clock. `working` are the tasks
that callbacks run in, `resting` those of any task that wait in the runtime right now. Held, with everybody who works at
rest, is paused.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import trio

from actors.clock import PausableClock
from actors.context import Context
from actors.engine import Engine
from actors.envelope import Envelope
from actors.host import Timer
from actors.processes import Tree
from protocol.specs import PauseMode
from protocol.states import Aim, State

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["Cut", "InHand", "Incarnation"]


ANEW_TERM_S = 0.5
"""How long the processes of a tree that is not wanted any more have between TERM and KILL."""

MOST_USED = 10**15
"""How much of anything a run may say that it used, so that sums of it are numbers, too."""

ROUNDING_S = 1e-6
"""What a sum of clock times may be wrong by: less than this is nothing to wait for."""


class Cut(StrEnum):
    """Why a run's scope was cancelled."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PAUSED = "paused"  # pause mode interrupt: back to the front of the queue
    STALLED = "stalled"
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class InHand:
    """The run in hand. The first cut wins."""

    envelope: Envelope
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    task: trio.lowlevel.Task | None = None
    cut: Cut | None = None
    by: str | None = None
    reason: str = ""
    through: str | None = None
    usage: dict[str, float] = field(default_factory=dict)

    def cancel(self, cut: Cut, *, by: str | None = None, reason: str = "", through: str | None = None) -> None:
        if self.cut is None:
            self.cut, self.by, self.reason, self.through = cut, by, reason, through
            self.scope.cancel()


class Incarnation:
    """See the module. Made when the engine boots, so that an actor exists from that moment on."""

    engine: Engine
    """The author's object; made in the incarnation's own task, so that its constructor can fail like a boot."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.scope = trio.CancelScope(shield=True)
        self.clock = PausableClock()
        self.ctx = Context(cell, self)
        self.nursery: trio.Nursery | None = None
        self.run: InHand | None = None
        self.working: set[trio.lowlevel.Task] = set()
        self.resting: set[trio.lowlevel.Task] = set()
        self.at_process: set[trio.lowlevel.Task] = set()
        self.told = False
        self.quiescer: trio.lowlevel.Task | None = None
        self.quiescing = False
        self.started_at = cell.host.now()
        self.progress_at = 0.0
        self.step = "starting"
        self._tree: Tree | None = None
        self._stall: Timer | None = None

    # -- facts -------------------------------------------------------------------------------------------------------
    @property
    def tree(self) -> Tree:
        """The processes of this incarnation, found by their marker."""
        if self._tree is None:
            cell = self.cell
            home = cell.home if cell.kind.lasts(cell.config) or self._was_left else None
            marker = f"{cell.host.name}.{cell.spec.uid}.{cell.incarnation}"
            if home is not None and home.lasts:
                marker = home.marker(cell.host.name)
            self._tree = Tree(marker, cell.host.children, home)
        return self._tree

    @property
    def has_processes(self) -> bool:
        return self._tree is not None or self._was_left

    @property
    def _was_left(self) -> bool:
        """Whether there is a tree of an earlier house's, whoever we are."""
        return self.cell.home.lasts and self.cell.home.occupied

    @property
    def leaves_processes(self) -> bool:
        """Whether the tree is to be left to the next house, should the incarnation end now."""
        cell = self.cell
        parked = cell.ending and cell.aim is Aim.PARKED
        return (parked or cell.host.gone) and cell.home.lasts and cell.kind.lasts(cell.config)

    async def begin_anew(self) -> None:
        """End the tree. Raises RuntimeError when something of it cannot be ended."""
        tree = self.tree
        leaks = await tree.end(ANEW_TERM_S)
        if leaks:
            raise RuntimeError(f"process {leaks[0].pid} ({leaks[0].name}) of before {leaks[0].why}")
        self._tree = None

    @property
    def programs(self) -> int:
        """How many programs of its own run, without what those started."""
        return self._tree.programs if self._tree is not None else 0

    @property
    def frozen(self) -> bool:
        return self._tree is not None and self._tree.frozen

    @property
    def wants_freeze(self) -> bool:
        wanted = (self.told and self.engine.freezes) or any(
            hold.mode is PauseMode.FREEZE for hold in self.cell.holds.values()
        )
        return self._tree is not None and wanted

    @property
    def quiescent(self) -> bool:
        """Whether nobody's code goes on before the gate opens. A run that was taken works, also before its task has
        begun.
        """
        if self.run is not None and self.run.task is None:
            return False
        return all(self.rests(task) for task in self.working)

    def rests(self, task: trio.lowlevel.Task) -> bool:
        """Whether a task waits in the runtime, or for a frozen process, or for children of its own that all do."""
        if task in self.resting or (self.frozen and task in self.at_process):
            return True
        families = task.child_nurseries
        # That the parent waits at the end of its innermost nursery is known to trio 0.35 by a private name only.
        return (
            bool(families)
            and families[-1]._parent_waiting_in_aexit  # noqa: SLF001 - as said above; test_pause turns red without it
            and all(self.rests(child) for family in families for child in family.child_tasks)
        )

    @property
    def shut(self) -> bool:
        """Whether the gate is closed."""
        return self.told or self.cell.state in (State.PAUSING, State.PAUSED)

    def own_nursery(self) -> trio.Nursery:
        if self.nursery is None:
            raise RuntimeError("the nursery opens with the first callback")
        return self.nursery

    @property
    def comes_back(self) -> bool:
        """Whether the run in hand, which is being cancelled, is to be tried again; False too when it was not the run
        that was cancelled but something within it.
        """
        cell, cut = self.cell, self.run.cut if self.run is not None else None
        if cut in (Cut.CANCELLED, Cut.TIMED_OUT):
            return False
        if cell.ending:
            return cell.aim is None or cell.aim < Aim.STOPPED
        if cut is not None:
            return True
        return self.scope.cancel_called or (self.nursery is not None and self.nursery.cancel_scope.cancel_called)

    # -- the gate ----------------------------------------------------------------------------------------------------
    async def gate(self) -> None:
        """Where every runtime wait returns to the author's code: parks while the engine is held.

        The `while` is load-bearing: a release and a new hold may both pass before this task runs. In a stopping engine
        the run in hand is cancelled here: its next step would be one too many.
        """
        while True:
            if self.cell.ending:
                hand = self.run
                if hand is not None and hand.task is trio.lowlevel.current_task():
                    hand.cancel(Cut.STOPPING)
                    await trio.lowlevel.checkpoint()
                return
            if not self.shut or trio.lowlevel.current_task() is self.quiescer:
                return
            try:
                await self.cell.lot.park()
            except trio.Cancelled:
                await self._hold_back()  # noqa: ASYNC102 - shielded in there, and bounded by the release
                raise

    async def _hold_back(self) -> None:
        """A cancellation that is not the runtime's (a deadline of the author's own) waits for the release too."""
        with trio.CancelScope(shield=True):
            while self.shut and not self.cell.ending and not self._cut_off:
                await self.cell.lot.park()

    @property
    def _cut_off(self) -> bool:
        """Whether the run, or the incarnation, was cancelled or crashed."""
        if self.run is not None and self.run.cut is not None:
            return True
        return self.scope.cancel_called or (self.nursery is not None and self.nursery.cancel_scope.cancel_called)

    async def quietly(self, wait: Callable[[], Awaitable[None]] | None) -> None:
        """Wait, then pass the gate, also with an error; meanwhile this task rests."""
        task = trio.lowlevel.current_task()
        outermost = task not in self.resting
        self.resting.add(task)
        if self.cell.held:
            self.cell.lot.unpark_all()
        try:
            if wait is not None:
                await wait()
        except BaseException:
            await self.gate()  # noqa: ASYNC102 - a cancelled wait waits for the release, not longer
            raise
        else:
            await self.gate()
        finally:
            if outermost:
                self.resting.discard(task)

    # -- ending ------------------------------------------------------------------------------------------------------
    def budget(self, grace_s: float) -> None:
        """The one line that stop, dispose, escalation and shutdown are."""
        self.scope.deadline = min(self.scope.deadline, self.cell.host.now() + grace_s)

    def ask_to_end(self) -> None:
        """A run that waits in the runtime does nothing that could be finished: it is cut at once."""
        hand = self.run
        if hand is not None and hand.task is not None and self.rests(hand.task):
            hand.cancel(Cut.STOPPING)

    @property
    def left_s(self) -> float:
        """What is left of the budget (inf: nobody asked it to end)."""
        return max(self.scope.deadline - self.cell.host.now(), 0.0)

    # -- progress ----------------------------------------------------------------------------------------------------
    def progressed(self) -> None:
        self.progress_at = self.clock.time()
        if self.cell.stalled:
            self.cell.unstalled()

    def watch(self) -> None:
        """Arm the stall watch for the run in hand; it sleeps while paused and while a person is waited for."""
        self.unwatch()
        stall_s, hand = self.cell.spec.stall_s, self.run
        if stall_s is None or hand is None or self.clock.paused:
            return
        still_s = self.clock.time() - self.progress_at
        if self.cell.requests.pending_of(hand.envelope.run_id):
            still_s = 0.0
        left_s = stall_s - still_s
        if left_s > ROUNDING_S:
            self._stall = self.cell.host.at(self.cell.host.now() + left_s, self.watch)
        elif not self.cell.stalled:
            self.cell.stall(still_s)

    def unwatch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def add_usage(self, amounts: dict[str, float]) -> None:
        if self.run is not None:
            for name, amount in amounts.items():
                used = self.run.usage.get(name, 0) + amount
                if not -MOST_USED <= used <= MOST_USED:  # nor is NaN
                    raise ValueError(f"a run uses at most {MOST_USED} of {name!r}")
                self.run.usage[name] = used

    @property
    def bounded(self) -> bool:
        return self.scope.deadline < math.inf
