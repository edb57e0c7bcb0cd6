"""The synchronous core of one engine: state, holds, mailbox, aim; every change is one method and has no await in it.

Trio cannot interleave between checkpoints, so there is no lock anywhere. Commands arrive through `deliver`, in the
order of the journal and after they are durable; what a command causes is written in one piece (`turn`). The tasks
around a cell (`actors.loop`) only ever park on its `lot` and look again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import trio
from pydantic import BaseModel

from actors.engine import Engine
from actors.envelope import Envelope
from actors.host import Host, Timer
from actors.incarnation import Cut, Incarnation
from actors.loop import live, quiesce
from actors.mailbox import Mailbox
from actors.requests import Requests
from actors.runs import Runs
from actors.slices import Slices
from protocol.commands import Cancel, Command, Dispose, Pause, Resume, Signal, Stop, Submit, verb_of
from protocol.commands import Restart as RestartCommand
from protocol.decide import Cause, Exit, History
from protocol.edge import as_json
from protocol.errors import EngineBusy, EngineDisposed, EnginehouseError, InvalidState
from protocol.events import Row
from protocol.plan import AIMS, Step, Verb, allowed, plan
from protocol.specs import OnStall, PauseMode, Spec
from protocol.states import EVENT_OF, Aim, State, Trigger, next_state
from protocol.view import Hold

__all__ = ["Cell"]

MARGIN_LOG_ROWS, LOG_WINDOW_S = 200, 1.0
"""How many `log.line` rows an engine may write per window; the rest is counted in one `log.dropped`."""


class Cell:
    """One engine. Made when it is spawned or recovered, dropped when its id is spawned anew."""

    def __init__(self, host: Host, spec: Spec, kind: type[Engine], config: BaseModel) -> None:
        self.host, self.spec, self.kind, self.config = host, spec, kind, config
        self.state = State.STOPPED
        self.aim: Aim | None = None
        self.holds: dict[str, Hold] = {}
        self.incarnation = 0
        self.history = History()
        self.stalled = False
        self.waiting_for_place: list[Command] | None = None
        self.mailbox = Mailbox(spec.mailbox_size)
        self.slices = Slices(self._patched)
        self.requests = Requests(self)
        self.runs = Runs(self)
        self.actor: Incarnation | None = None
        self.living = False
        self.nap: trio.CancelScope | None = None
        self.lot = trio.lowlevel.ParkingLot()
        self.leaks: list[dict[str, Any]] = []
        self.rows_ahead = self.bytes_ahead = 0
        self._sent = self._done = 0
        self._turns = 0
        self._rows: list[Row] = []
        self._about: Command | None = None
        self._stop_by: tuple[str | None, str] = (None, "")
        self._idle: Timer | None = None
        self._logged = (0.0, 0, 0)

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
    def stopped_by(self) -> tuple[str | None, str]:
        """Who asked the present ending, and why."""
        return self._stop_by

    def remember_stop(self, by: str | None, reason: str) -> None:
        """What the journal says of an ending that was going on."""
        self._stop_by = (by, reason)

    def step(self, verb: Verb, *, held: bool | None = None) -> Step:
        """What `verb` would do now."""
        return plan(
            verb, self.state, actor=self.actor is not None, aim=self.aim, held=self.held if held is None else held
        )

    # -- writing -----------------------------------------------------------------------------------------------------
    @contextmanager
    def turn(self) -> Iterator[None]:
        """Everything noted within is one write; turns nest."""
        self._turns += 1
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns and self._rows:
                rows, self._rows = tuple(self._rows), []
                self._send(rows)

    def note(
        self,
        type: str,
        data: dict[str, Any],
        *,
        run_id: str | None = None,
        command_id: str | None = None,
        principal: str | None = None,
        time: str | None = None,
    ) -> Row:
        """Write a durable row, in order. Raises ValueError or TypeError for data that is not JSON; then nothing
        happened.
        """
        if self.slices.dirty and type != "state.patched":
            self.slices.flush()
        row = self._row(type, data, run_id, command_id, principal)
        if time is not None:
            row.time = time
        row.tail()
        if run_id is not None:
            self.runs.digest(row)
        if self._turns:
            self._rows.append(row)
        else:
            self._send((row,))
        return row

    def transient(self, type: str, data: dict[str, Any], *, run_id: str | None = None) -> None:
        """Show a row to whoever is watching, and forget it."""
        self.host.publish(self, self._row(type, data, run_id, None, None))

    def _row(
        self, type: str, data: dict[str, Any], run_id: str | None, command_id: str | None, principal: str | None
    ) -> Row:
        spec = self.spec
        return Row(
            type=type, time=self.host.stamp(), data=data, uid=spec.uid, engine_id=spec.id, pool=spec.pool,
            incarnation=self.incarnation, run_id=run_id, command_id=command_id, principal=principal,
        )  # fmt: skip

    def _send(self, rows: tuple[Row, ...]) -> None:
        self._sent += 1
        self.rows_ahead += len(rows)
        self.bytes_ahead += sum(len(row.tail()) for row in rows)
        self.host.submit(self, rows)

    def committed(self, rows: tuple[Row, ...]) -> None:
        """A write of this cell is durable (called once for each, in order)."""
        self._done += 1
        self.rows_ahead -= len(rows)
        self.bytes_ahead -= sum(len(row.tail()) for row in rows)
        if self.slices.dirty and self._done == self._sent:
            self.slices.flush()
        self.lot.unpark_all()

    async def barrier(self) -> None:
        """Wait until everything said so far is durable."""
        self.slices.flush()
        until = self._sent
        if self._done >= until:
            await trio.lowlevel.checkpoint()
        while self._done < until:
            await self.lot.park()

    def update(self, name: str, value: Any, run_id: str | None) -> None:
        """Set a slice."""
        self.slices.set(name, value, run_id)
        if self._done == self._sent and not self._turns:
            self.slices.flush()

    def _patched(self, data: dict[str, Any], run_id: str | None) -> None:
        self.note("state.patched", data, run_id=run_id if run_id in self.runs.open else None)

    def log(self, text: str, level: str, fields: dict[str, Any], run_id: str | None) -> None:
        """A `log.line` within the budget; what exceeds it becomes one `log.dropped` per window."""
        since, count, dropped = self._logged
        now = self.host.now()
        if now - since >= LOG_WINDOW_S:
            if dropped:
                self.note("log.dropped", {"count": dropped})
            since, count, dropped = now, 0, 0
        if count < MARGIN_LOG_ROWS:
            self.note("log.line", {"level": level, "text": text, **fields}, run_id=run_id)
            count += 1
        else:
            dropped += 1
        self._logged = (since, count, dropped)

    def fire(self, trigger: Trigger, data: dict[str, Any] | None = None) -> None:
        """Move along the table, and write the one row of that move."""
        self.state = next_state(self.state, trigger, actor=self.actor is not None)
        about = self._about
        self.note(EVENT_OF[trigger], data or {}, command_id=about.id if about else None)
        self.host.changed(self)
        self.lot.unpark_all()

    # -- commands ----------------------------------------------------------------------------------------------------
    def check(self, body: Any) -> Step:
        """Whether `body` is legal now: raises what refuses it, and changes nothing."""
        verb = verb_of(body)
        held = self.held
        if isinstance(body, Resume):
            held = bool(self.holds.keys() - ({body.holder} if body.holder != "*" else self.holds.keys()))
        step = self.step(verb, held=held)
        if step is Step.REFUSED:
            raise self.refusal(body.type)
        if isinstance(body, Resume) and (body.holder not in self.holds and not (body.holder == "*" and self.holds)):
            return Step.REPEAT
        if isinstance(body, Submit):
            self.runs.check(body)
        elif isinstance(body, Dispose) and not body.force and self.busy and not self.ending:
            raise EngineBusy(
                f"Engine {self.spec.id} has work in hand or queued. Cancel it, or dispose with force.",
                active_run=self.runs.active_id,
            )
        elif isinstance(body, Cancel):
            return self.runs.check_cancel(body)
        elif step is Step.REPLY:
            self.requests.resolve(body)
        return step

    def refusal(self, type: str) -> EnginehouseError:
        """Why nothing but what it names is legal now."""
        if self.state is State.DISPOSED:
            return EngineDisposed(f"Engine {self.spec.id} is disposed. Spawn it anew if you need it.")
        return InvalidState(
            f"Engine {self.spec.id} is {self.state}; {type} is not possible there. Nothing was changed.",
            state=self.state.value,
            allowed=allowed(self.state, actor=self.actor is not None, aim=self.aim, held=self.held),
        )

    def deliver(self, command: Command) -> EnginehouseError | None:
        """Apply a durable command, in journal order. The error, when it is no longer legal: it was then rejected."""
        body = command.body
        with self.turn():
            try:
                step = self.check(body)
            except EnginehouseError as error:
                self.reject(command, error)
                return error
            self._about = command
            try:
                if isinstance(body, Submit):
                    self.runs.queue(command, self.runs.envelope(command))
                elif isinstance(body, Signal):
                    self.receive(Envelope(body.name, body.payload, command=command, at=self.host.now()))
                else:
                    before = (self.state, self.aim, len(self.holds))
                    changed = self._apply(step, command)
                    if changed is not None:
                        self.complete(command, changed or before != (self.state, self.aim, len(self.holds)))
            finally:
                self._about = None
        self.lot.unpark_all()
        return None

    def complete(self, command: Command, changed: bool) -> None:
        self.note("command.completed", {"changed": changed}, command_id=command.id, principal=command.principal)

    def reject(self, command: Command, error: EnginehouseError) -> None:
        """The end of a command that was accepted and is not legal any more."""
        problem = {"slug": error.slug, "detail": error.detail, **error.extra}
        if command.run_id is not None:
            self.note(
                "run.cancelled",
                {"by": None, "reason": error.slug, "error": {"slug": error.slug, "detail": error.detail}},
                run_id=command.run_id,
            )
        self.note("command.rejected", {"problem": as_json(problem)}, command_id=command.id, principal=command.principal)

    def _apply(self, step: Step, command: Command) -> bool | None:
        """Carry out one step; True: it changed what state, aim and holds do not show; None: settled later."""
        body = command.body
        match step:
            case Step.REPEAT:
                return False
            case Step.NOTED | Step.HOLD | Step.RELEASE | Step.WAKE if isinstance(body, Pause):
                return self._hold(body, command)
            case Step.NOTED | Step.RELEASE | Step.WAKE:
                self._lift(body, step)
            case Step.BOOT | Step.BOOT_FRESH:
                if isinstance(body, Resume):
                    self._lift(body, step)
                    return True
                if step is Step.BOOT_FRESH:
                    self.history = History()
                return self.boot("restart" if body.type == "restart" else body.type, command)
            case Step.STOP | Step.STOP_NOW | Step.RAISE | Step.ENDED | Step.DISPOSED:
                assert isinstance(body, Stop | RestartCommand | Dispose)
                grace_s = self.spec.grace_s if body.grace_s is None else body.grace_s
                return self.end(
                    AIMS[verb_of(body)],
                    0.0 if step is Step.STOP_NOW else grace_s,
                    by=command.principal,
                    reason=body.reason,
                )
            case Step.CANCEL:
                self.runs.cancel(body, command)
            case Step.REPLY:
                request, decision = self.requests.resolve(body)
                self.requests.decide(request, decision, by=command.principal or "nobody")
            case _:
                raise AssertionError(step)
        return True

    # -- holds -------------------------------------------------------------------------------------------------------
    def _hold(self, body: Pause, command: Command) -> bool:
        mode = body.mode or self.kind.pause_mode
        holder = body.holder or command.principal or "nobody"
        before = self.holds.get(holder)
        if before is not None and before.mode is mode:
            return False
        self.holds[holder] = Hold(
            holder=holder, mode=mode, reason=body.reason, by=command.principal, at=self.host.stamp()
        )
        self._note_holds()
        if self._idle is not None:
            self._idle.cancel()
        if self.state is State.RUNNING:
            self.fire(Trigger.HOLD)
        actor = self.actor
        if actor is not None and self.state in (State.PAUSING, State.PAUSED):
            if mode is PauseMode.INTERRUPT and actor.run is not None:
                actor.run.cancel(Cut.PAUSED, by=command.principal, reason=body.reason)
            self.quiesce()
        return True

    def _lift(self, body: Resume, step: Step) -> None:
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
        about = self._about
        self.note("engine.held", {"holds": as_json(list(self.holds.values()))}, command_id=about.id if about else None)
        self.lot.unpark_all()

    def quiesce(self) -> None:
        """Held: see to it that nothing runs. Before the first callback there is nothing that could."""
        actor = self.actor
        assert actor is not None
        if actor.nursery is None:
            if self.state is State.PAUSING:
                self.quiet()
        elif not actor.quiescing:
            actor.quiescing = True
            actor.nursery.start_soon(quiesce, self, actor)
        self.lot.unpark_all()

    def quiet(self) -> None:
        """Nothing runs any more."""
        assert self.actor is not None
        self.actor.clock.pause()
        self.actor.unwatch()
        self.fire(Trigger.QUIET)

    # -- work --------------------------------------------------------------------------------------------------------
    def receive(self, envelope: Envelope, *, front: bool = False) -> None:
        """An accepted envelope enters the mailbox; the one place where work wakes a dormant engine."""
        self.mailbox.deliver(envelope, front=front)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self.wake()
        self.lot.unpark_all()

    def offer(self, envelope: Envelope) -> None:
        """A volatile envelope from an actor of this process. Raises MailboxFull, or what refuses a signal now."""
        if self.state is not State.RUNNING and self.step(Verb.SIGNAL) is Step.REFUSED:
            raise self.refusal("signal")
        self.mailbox.offer(envelope)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
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

    def idle(self) -> None:
        """Nothing to do: go dormant after a while, if that is wanted."""
        idle_s = self.host.idle_s(self)
        if idle_s is not None and (self._idle is None or not self._idle.active):
            self._idle = self.host.at(self.host.now() + idle_s, self._passivate)

    def _passivate(self) -> None:
        self._idle = None
        actor = self.actor
        quiet = actor is not None and not actor.working and not self.busy and not len(self.mailbox)
        if self.state is State.RUNNING and quiet:
            with self.turn():
                self.end(Aim.DORMANT, self.spec.grace_s, reason="idle")

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
    def boot(self, cause: str, command: Command | None = None) -> bool | None:
        """The one way up. A held engine never boots: it parks. None: it waits for a place in its pool."""
        if self.held:
            if self.state is not State.PAUSED:
                self.fire(Trigger.PARK, {"cause": "held"})
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
                self.note("engine.stopping", data, command_id=self._about.id if self._about else None)
            else:
                self.fire(Trigger.STOP, data)
        actor.ask_to_end()
        if self.aim is Aim.DISPOSED:
            late = actor.scope.deadline + self.host.margin_s
            self.host.at(late, lambda: self._leaked(actor))
        self.lot.unpark_all()
        return raised or actor.scope.deadline < before

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
                    self._settle_waiting()
                    self.requests.withdraw_all("stopped")
                    self.fire(Trigger.ENDED, {"by": by, "reason": reason})
                case Aim.DISPOSED:
                    self.bury(by)
        if self.nap is not None and self.state is not State.STARTING:
            self.nap.cancel()

    def bury(self, by: str | None) -> None:
        """The end of the engine: everything still owed gets its one end, then `disposed`."""
        self._settle_waiting()
        dead = 0
        for envelope in self.mailbox.bury():
            dead += envelope.command is not None
            self.runs.bury(envelope, "disposed", by)
        self.requests.withdraw_all("disposed")
        self.requests.close()
        self.runs.close()
        if self._idle is not None:
            self._idle.cancel()
        self.holds = {}
        self.fire(Trigger.DISPOSED, {"leaks": self.leaks, "dead_letters": dead, "by": by})

    def _settle_waiting(self) -> None:
        for command in self.waiting_for_place or ():
            self.complete(command, False)
        self.waiting_for_place = None

    def _leaked(self, actor: Incarnation) -> None:
        """Past deadline and margin the task still lives: it shields. It cannot be abandoned, but it can be named."""
        if self.actor is not actor or self.state is not State.STOPPING or self.aim is not Aim.DISPOSED:
            return
        self.leaks = [*self.leaks, {"what": "task", "why": f"still in {actor.step}, shielded from cancellation"}]
        with self.turn():
            self.runs.end_in_hand(Exit(Cause.ENDED))
            self.aim, self.actor = None, None
            self.bury(self._stop_by[0])

    def exited(self, actor: Incarnation, exit: Exit) -> float | None:
        """The one recorded end of an incarnation. Seconds until it boots again, when it backs off."""
        actor.unwatch()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self.actor is not actor:  # disposed as a leak before it came to its end
            return None
        with self.turn():
            self.runs.end_in_hand(exit)
            self.requests.withdraw(None, "the incarnation ended")
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
