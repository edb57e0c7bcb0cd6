"""The synchronous core of one engine: state, holds, mailbox, aim; every change is one method and has no await in it.

Trio cannot interleave between checkpoints, so there is no lock anywhere. Commands arrive through `deliver`, in the
order of the journal and after they are durable; what a command causes is written in one piece (`turn`). The tasks
around a cell (`actors.loop`) only ever park on its `lot` and look again.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import trio
from pydantic import BaseModel

from actors.engine import Engine
from actors.envelope import Envelope
from actors.host import Host, Timer
from actors.idle import Idle
from actors.incarnation import Cut, Incarnation
from actors.journaling import Journaling
from actors.loop import live, quiesce
from actors.mailbox import Mailbox
from actors.processes import Home, Tree
from actors.requests import Requests
from actors.runs import Runs
from protocol.commands import Command, Pause, Resume
from protocol.decide import Cause, Exit, History
from protocol.edge import as_json
from protocol.errors import EngineDisposed, EnginehouseError, InvalidState, ShuttingDown
from protocol.plan import Step, Verb, allowed, plan
from protocol.specs import OnStall, PauseMode, Spec
from protocol.states import EVENT_OF, LIVE, Aim, State, Trigger, next_state
from protocol.view import Hold, View

__all__ = ["Cell"]


class Cell(Journaling):
    """One engine. Made when it is spawned or recovered, dropped when its id is spawned anew."""

    def __init__(self, host: Host, spec: Spec, kind: type[Engine], config: BaseModel) -> None:
        super().__init__(host, spec)
        self.kind, self.config = kind, config
        self.state = State.STOPPED
        self.aim: Aim | None = None
        self.holds: dict[str, Hold] = {}
        self.history = History()
        self.stalled = False
        self.waiting_for_place: list[Command] | None = None
        self.mailbox = Mailbox(spec.mailbox_size)
        self.requests = Requests(self)
        self.runs = Runs(self)
        self.idle = Idle(self)
        self.actor: Incarnation | None = None
        self.living = False
        self.nap: trio.CancelScope | None = None
        self.leaks: list[dict[str, Any]] = []
        self.about: Command | None = None
        self._stop_by: tuple[str | None, str] = (None, "")
        self._leak_watch: Timer | None = None

    def __repr__(self) -> str:
        return f"<Cell {self.spec.id} {self.state} #{self.incarnation}>"

    # -- facts -------------------------------------------------------------------------------------------------------
    @property
    def held(self) -> bool:
        return bool(self.holds)

    @property
    def ending(self) -> bool:
        return self.state is State.STOPPING

    @property
    def busy(self) -> bool:
        """A run is in hand or queued."""
        return bool(self.runs.in_hand) or self.mailbox.has_runs()

    @property
    def home(self) -> Home:
        """Where this engine's process tree is found again, if it lasts."""
        lasting = self.host.children.lasting
        folder = Path(lasting) if lasting is not None else self.host.runs_directory.parent / "lasting"
        return Home.of(folder, self.spec.uid, lasts=lasting is not None)

    async def left_tree(self) -> Tree | None:
        """The process tree that the last house left, to be looked at, while nobody has booted to take it over; else
        None. For one at a time: its keeper talks to one.
        """
        tree = Tree(self.home.marker(self.host.name), self.host.children, self.home)
        return tree if self._left_processes and await tree.look() else None

    @property
    def asked_by(self) -> tuple[str, ...]:
        """The principals behind what is in hand."""
        commands = [envelope.command for envelope in self.mailbox.hand]
        return tuple(dict.fromkeys(name for command in commands if command for name in command.asked_by))

    @property
    def stopped_by(self) -> tuple[str | None, str]:
        """Who asked the present ending, and why."""
        return self._stop_by

    def restore(self, view: View) -> None:
        """Become what the journal says. What the last house had in its hands is `lost`."""
        self.state, self.aim = view.state, view.aim
        self.holds = dict(view.holds)
        self.incarnation = view.incarnation
        self.slices.restore(view.slices)
        self.requests.restore(view.requests, view.last_row_at)
        stop = view.why.get("restart" if view.aim is Aim.RESTART else "stop")
        self._stop_by = (stop.by, stop.reason or "") if stop is not None else (None, "")

    def step(self, verb: Verb, *, held: bool | None = None) -> Step:
        """What `verb` would do now."""
        return plan(
            verb, self.state, actor=self.actor is not None, aim=self.aim, held=self.held if held is None else held
        )

    # -- moving ------------------------------------------------------------------------------------------------------
    def fire(self, trigger: Trigger, data: dict[str, Any] | None = None) -> None:
        """Move along the table, and write the one row of that move."""
        self.state = next_state(self.state, trigger, actor=self.actor is not None)
        about = self.about
        self.note(EVENT_OF[trigger], data or {}, command_id=about.id if about else None)
        self.host.changed(self)
        self.lot.unpark_all()

    def refusal(self, type: str) -> EnginehouseError:
        """Why nothing but what it names is legal now."""
        if self.state is State.DISPOSED:
            return EngineDisposed(f"Engine {self.spec.id} is disposed. Spawn it anew if you need it.")
        return InvalidState(
            f"Engine {self.spec.id} is {self.state}; {type} is not possible there. Nothing was changed.",
            state=self.state.value,
            allowed=allowed(self.state, actor=self.actor is not None, aim=self.aim, held=self.held),
        )

    def complete(self, command: Command, changed: bool) -> None:
        self.note("command.completed", {"changed": changed}, command_id=command.id, principal=command.principal)

    def reject(self, command: Command, error: EnginehouseError) -> None:
        """The end of a command that was accepted and is not legal any more."""
        problem = {**error.problem, **error.extra}
        if command.run_id is not None:
            self.note(
                "run.cancelled",
                {"by": None, "reason": error.slug, "error": error.problem},
                run_id=command.run_id,
            )
        self.note("command.rejected", {"problem": as_json(problem)}, command_id=command.id, principal=command.principal)

    # -- holds -------------------------------------------------------------------------------------------------------
    def hold(self, body: Pause, by: str | None) -> bool:
        mode = body.mode or self.kind.pause_mode
        holder = body.holder or by or "nobody"
        before = self.holds.get(holder)
        if before is not None and before.mode is mode:
            return False
        self.holds[holder] = Hold(holder=holder, mode=mode, reason=body.reason, by=by, at=self.host.stamp())
        self._note_holds()
        self.idle.suspend()
        if self.state is State.RUNNING:
            self.fire(Trigger.HOLD)
        actor = self.actor
        if actor is not None and self.state in (State.PAUSING, State.PAUSED):
            if mode is PauseMode.INTERRUPT and actor.run is not None:
                actor.run.cancel(Cut.PAUSED, by=by, reason=body.reason)
            self.quiesce()
        return True

    def lift(self, body: Resume, step: Step) -> None:
        for holder in list(self.holds) if body.holder == "*" else [body.holder or ""]:
            self.holds.pop(holder, None)
        self._note_holds()
        if self.holds:
            return
        if step is Step.RELEASE:
            assert self.actor is not None
            self.actor.clock.resume()
            self.fire(Trigger.RELEASE)
            self.actor.watch()
        elif step is Step.BOOT:
            self.boot("release")
        elif step is Step.WAKE:
            self.wake()

    def _note_holds(self) -> None:
        about = self.about
        self.note("engine.held", {"holds": as_json(list(self.holds.values()))}, command_id=about.id if about else None)
        self.lot.unpark_all()

    def quiesce(self) -> None:
        """Held: see to it that nothing runs. Before the first callback there is nothing that could."""
        actor = self.actor
        assert actor is not None
        if actor.nursery is None:
            if self.state is State.PAUSING:
                self.quiet()
        elif not (actor.quiescing or actor.nursery.cancel_scope.cancel_called):  # a nursery that ends takes no task
            actor.quiescing = True
            actor.nursery.start_soon(quiesce, self, actor)
        self.lot.unpark_all()

    def quiet(self) -> None:
        """Nothing runs any more."""
        assert self.actor is not None
        self.actor.clock.pause()
        self.actor.unwatch()
        with self.turn():
            self.say_dropped()  # between paused and resumed nothing is said
            self.fire(Trigger.QUIET)

    # -- work --------------------------------------------------------------------------------------------------------
    def receive(self, envelope: Envelope, *, front: bool = False) -> None:
        """An accepted envelope enters the mailbox; the one place where work wakes a dormant engine."""
        self.mailbox.deliver(envelope, front=front)
        self.idle.end()
        self.wake()
        self.lot.unpark_all()

    def offer(self, envelope: Envelope) -> None:
        """A volatile envelope from an actor of this process. Raises MailboxFull, ShuttingDown, or what refuses a signal
        now.
        """
        if self.state is not State.RUNNING and self.step(Verb.SIGNAL) is Step.REFUSED:
            raise self.refusal("signal")
        if self.host.gone:
            raise ShuttingDown("The house is closed; nothing was sent.")
        self.mailbox.offer(envelope)
        self.idle.end()
        if self.state is State.DORMANT:
            self.wake()
        elif self.lot:
            self.lot.unpark_all()

    def wake(self) -> None:
        if self.state is State.DORMANT and len(self.mailbox):
            if self.held:
                return
            with self.turn():
                self.boot("wake")

    def stall(self, for_s: float) -> None:
        """The run in hand makes no progress: say so, then do what the spec says."""
        actor = self.actor
        assert actor is not None
        assert actor.run is not None
        self.stalled = True
        with self.turn():
            self.note(
                "engine.stalled",
                {"stalled": True, "for_s": round(for_s, 3), "step": actor.step},
                run_id=actor.run.envelope.run_id,
            )
            if self.spec.on_stall is OnStall.INTERRUPT:
                actor.run.cancel(Cut.STALLED, reason="stalled")
            elif self.spec.on_stall is OnStall.RESTART:
                self.end(Aim.RESTART, 0.0, reason="stalled")

    def unstalled(self) -> None:
        self.stalled = False
        hand = self.runs.in_hand
        self.note("engine.stalled", {"stalled": False}, run_id=hand.run_id if hand else None)
        if self.actor is not None:
            self.actor.watch()

    # -- life --------------------------------------------------------------------------------------------------------
    def lost(self) -> None:
        """The house died, and the actor with it: what was up is parked, an ending has come to where it aimed."""
        self.requests.withdraw(None, "the incarnation ended")
        if self.state is State.STOPPING:
            if self.aim in (None, Aim.RESTART):  # it boots with the others
                self.aim = Aim.PARKED
            self.rest()
        elif self.state in LIVE or self.state is State.BACKING_OFF:
            self.fire(Trigger.PARK, {"cause": "lost"})

    def boot(self, cause: str, command: Command | None = None) -> bool | None:
        """The one way up. A held engine never boots: it parks. None: it waits for a place in its pool."""
        if self.held:
            if self.state is not State.PAUSED:
                self.fire(Trigger.PARK, {"cause": "held"})
            self.settle_waiting(changed=True)
            return True
        if not self.host.admit(self):
            self.waiting_for_place = [*(self.waiting_for_place or []), *([command] if command else [])]
            if self.state is State.STOPPING:
                self.fire(Trigger.PARK, {"cause": "place"})
            return None
        waited, self.waiting_for_place = self.waiting_for_place, None
        self.incarnation += 1
        self.aim = None
        self.stalled = False
        self.fire(Trigger.BOOT, {"incarnation": self.incarnation, "cause": cause})
        self.actor = Incarnation(self)
        for late in waited or ():
            self.complete(late, True)
        if self.nap is not None:
            self.nap.cancel()
        if not self.living:
            self.living = True
            self.host.start(partial(live, self), f"engine {self.spec.id}")
        return True

    def ready(self) -> None:
        """on_start returned. Held meanwhile: no work is taken between."""
        with self.turn():
            self.fire(Trigger.READY)
            if self.held:
                self.fire(Trigger.HOLD)
                self.quiesce()

    def end(self, aim: Aim, grace_s: float, *, by: str | None = None, reason: str = "") -> bool:
        """Stop, restart, passivate, park and dispose: one mechanism, one shrinking budget. False: it was so already."""
        raised = self.aim is None or aim > self.aim
        if raised:
            self.aim, self._stop_by = aim, (by, reason)
        resting = self.actor is None and self.state in (State.PAUSED, State.FAILED)
        if resting and aim is not Aim.PARKED and self._left_processes:
            self.settle_waiting(changed=False)  # or a place that becomes free meanwhile would boot it
            self.actor = Incarnation(self)  # never booted: it only ends what the last one left
            self.living = True
            self.host.start(partial(live, self), f"engine {self.spec.id}")
        actor = self.actor
        if actor is None:
            if self.state is not State.STOPPING:
                self.rest()
            return True
        before = actor.scope.deadline
        actor.budget(grace_s)
        if raised:
            assert self.aim is not None
            data = {"aim": self.aim.name.lower(), "by": by, "reason": reason, "grace_s": grace_s}
            if self.state is State.STOPPING:
                self.note("engine.stopping", data, command_id=self.about.id if self.about else None)
            else:
                self.fire(Trigger.STOP, data)
        actor.ask_to_end()
        if self.aim is Aim.DISPOSED:
            late = actor.scope.deadline + self.host.margin_s
            if self._leak_watch is not None:
                self._leak_watch.cancel()
            self._leak_watch = self.host.at(late, lambda: self._leaked(actor))
        self.lot.unpark_all()
        return raised or actor.scope.deadline < before

    @property
    def _left_processes(self) -> bool:
        return not self.living and self.home.lasts and self.home.occupied

    def rest(self) -> None:
        """There is no actor any more: go where the aim says."""
        aim, self.aim = self.aim, None
        by, reason = self._stop_by
        with self.turn():
            match aim:
                case Aim.DORMANT:
                    self.fire(Trigger.SLEPT)
                    self.wake()
                case Aim.RESTART:
                    self.boot("restart")
                case Aim.PARKED:
                    self.fire(Trigger.PARK, {"cause": "shutdown"})
                case Aim.STOPPED:
                    self.settle_waiting(changed=False)
                    self.requests.withdraw_all("stopped")
                    self.fire(Trigger.ENDED, {"by": by, "reason": reason})
                case Aim.DISPOSED:
                    self.bury(by)
        if self.nap is not None and self.state is not State.STARTING:
            self.nap.cancel()

    def bury(self, by: str | None) -> None:
        """The end of the engine: everything still owed gets its one end, then `disposed`."""
        self.settle_waiting(changed=False)
        dead = 0
        for envelope in self.mailbox.bury():
            dead += envelope.command is not None
            self.runs.bury(envelope, "disposed", by)
        self.requests.withdraw_all("disposed")
        self.requests.close()
        self.runs.close()
        self.idle.end()
        self.say_dropped()
        if self._leak_watch is not None:
            self._leak_watch.cancel()
        self.holds = {}
        self.fire(Trigger.DISPOSED, {"leaks": self.leaks, "dead_letters": dead, "by": by})

    def settle_waiting(self, *, changed: bool) -> None:
        """It waits for a place no more: what asked for one has come to this."""
        for command in self.waiting_for_place or ():
            self.complete(command, changed)
        self.waiting_for_place = None

    def _leaked(self, actor: Incarnation) -> None:
        """Past deadline and margin the task still lives: it shields. It cannot be abandoned, but it can be named."""
        if self.actor is not actor or self.state is not State.STOPPING or self.aim is not Aim.DISPOSED:
            return
        actor.unwatch()
        self.leaks = [*self.leaks, {"what": "task", "why": f"still in {actor.step}, shielded from cancellation"}]
        with self.turn():
            self.runs.end_in_hand(Exit(Cause.ENDED))
            self.aim, self.actor = None, None
            self.bury(self._stop_by[0])

    def exited(self, actor: Incarnation, exit: Exit) -> float | None:
        """The one recorded end of an incarnation. Seconds until it boots again, when it backs off."""
        actor.unwatch()
        self.idle.end()
        if self.actor is not actor:  # disposed as a leak before it came to its end
            return None
        with self.turn():
            self.say_dropped()
            self.runs.end_in_hand(exit)
            if self.aim is not Aim.DORMANT:  # for whom it wakes again at once
                self.forsake(exit.error or "the engine was stopped")
            self.requests.withdraw(None, "the incarnation ended")
            if exit.cleanup_error is not None:
                text = f"While it ended: {exit.cleanup_error}"
                self.note("log.line", {"level": "error", "text": text})
            if self.state is State.STOPPING:  # our own flag first, the exception second
                self.actor = None
                self.rest()
                return None
            decision = self.host.decide(self, exit)
            self.history = decision.history
            data = {"exit": as_json(exit), "delay_s": round(decision.delay_s, 3)}
            if decision.trigger is Trigger.ENDED:
                self.requests.withdraw_all("ended")
            self.fire(decision.trigger, data)
            self.actor = None
        return decision.delay_s if decision.trigger is Trigger.CRASHED else None

    def forsake(self, reason: str) -> None:
        """Volatile messages go with the incarnation, or the house, that they were sent to."""
        for envelope in self.mailbox.bury_volatile():
            self.runs.bury(envelope, reason, None)

    def backed_off(self) -> None:
        """The delay has passed; somebody may have stopped or started it meanwhile."""
        if self.state is State.BACKING_OFF and not self.host.gone:
            with self.turn():
                self.boot("backoff")

    def shut_down(self, grace_s: float) -> None:
        """The house closes: whatever is up is parked, and boots again with the next house."""
        if self.actor is not None or self.state is State.BACKING_OFF:
            with self.turn():
                self.end(Aim.PARKED, grace_s, reason="shutdown")
        if self.actor is None:
            self.forsake("the house closes")
