"""The runs of one engine: queued, in hand, and each with exactly one end.

What a run's end writes is one piece: its withdrawn requests, its end row with the digest, and the settling of its
command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.digest import Digest
from actors.engine import ANEW
from actors.envelope import Envelope, Undelivered
from actors.host import Timer
from actors.incarnation import Cut, InHand
from protocol.commands import Cancel, Command, Submit
from protocol.decide import Exit
from protocol.edge import as_json
from protocol.errors import InvalidState, NotFound, RunConflict
from protocol.plan import Step
from protocol.runs import OnBusy, Priority, Run, RunStatus
from protocol.specs import OnInterrupt
from protocol.states import Aim
from protocol.times import epoch_ms

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["OpenRun", "Runs", "queued_data"]

REMEMBERED = 64
"""How many ended runs are remembered, so that a late cancel gets a true answer."""

SETTLES = {"completed": "completed", "failed": "failed", "cancelled": "cancelled", "timed_out": "failed"}
"""How a run's end settles its command."""


def queued_data(command: Command) -> dict[str, Any]:
    """The data of the `run.queued` row that opens the run of a submit."""
    body: Submit = command.body
    return {
        "input": as_json(body.input),
        "priority": body.priority.value,
        "labels": dict(body.labels),
        "timeout_s": body.timeout_s,
        "queue_ttl_s": body.queue_ttl_s,
        "retry_of": command.retry_of,
        "asked_by": list(command.asked_by),
        "done_for": command.done_for,
    }


@dataclass(slots=True, eq=False)
class OpenRun:
    """A run that has not ended. `ttl`: when it is given up if it still waits; `cancels`: what asked for its end while
    it was in hand, settled with it.
    """

    envelope: Envelope
    ttl: Timer | None = None
    cancels: list[Command] = field(default_factory=list)


class Runs:
    """See the module. Every change is synchronous and is written in the cell's present turn."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.open: dict[str, OpenRun] = {}
        self.ended: dict[str, RunStatus] = {}

    @property
    def hand(self) -> InHand | None:
        actor = self._cell.actor
        return actor.run if actor else None

    @property
    def in_hand(self) -> Envelope | None:
        """The run in hand, started or about to be."""
        return next((e for e in self._cell.mailbox.hand if e.is_run), None)

    @property
    def active_id(self) -> str | None:
        """The run in hand, else the one that is next."""
        envelope = self.in_hand or next(self._cell.mailbox.runs(), None)
        return envelope.run_id if envelope else None

    # -- coming in ---------------------------------------------------------------------------------------------------
    def check(self, body: Submit) -> None:
        if body.on_busy is OnBusy.REJECT and self.active_id is not None:
            raise RunConflict(
                f"Engine {self._cell.spec.id} is busy with {self.active_id}. Wait for it, or choose another on_busy.",
                active_run=self.active_id,
                events_url=f"/api/v1/runs/{self.active_id}/events",
            )

    def envelope(self, command: Command) -> Envelope:
        """The envelope of a submit."""
        body = command.body
        first = body.on_busy in (OnBusy.INTERRUPT, OnBusy.REPLACE)
        return Envelope(
            "run", body.input, command=command, run_id=command.run_id, high=first or body.priority is Priority.HIGH,
            timeout_s=body.timeout_s, labels=body.labels, at=self._cell.host.now(),
        )  # fmt: skip

    def queue(self, command: Command, envelope: Envelope) -> None:
        """A submit that was just committed enters the mailbox; what it supersedes is cancelled first."""
        body: Submit = command.body
        digest = Digest()
        digest.add({"type": "run.queued", "time": command.time, "data": queued_data(command)})
        if body.on_busy is OnBusy.REPLACE:
            for queued in list(self._cell.mailbox.runs()):
                self.supersede(queued.run_id or "", command.principal)
        if body.on_busy in (OnBusy.INTERRUPT, OnBusy.REPLACE) and self.hand is not None:
            self.hand.cancel(Cut.CANCELLED, by=command.principal, reason="superseded", through=command.id)
        self._register(envelope, digest, body.queue_ttl_s)
        self._cell.receive(envelope, front=body.on_busy in (OnBusy.INTERRUPT, OnBusy.REPLACE))

    def _register(self, envelope: Envelope, digest: Digest, ttl_s: float | None) -> None:
        assert envelope.run_id is not None
        host = self._cell.host
        self._cell.digests[envelope.run_id] = digest
        found = self.open[envelope.run_id] = OpenRun(envelope)
        if ttl_s is not None:
            found.ttl = host.at(host.now() + ttl_s, lambda: self._expire(envelope))

    def restore(self, run: Run, command: Command, digest: Digest) -> None:
        """A run that the journal says is open, back in the queue; what was in hand is dealt with by `interrupt`."""
        envelope = self.envelope(command)
        envelope.attempt, envelope.lost, envelope.resumed = run.attempts + 1, run.lost, run.resumed
        ttl_s = None
        if run.queue_ttl_s is not None and run.status is RunStatus.QUEUED and not run.attempts:
            ttl_s = max(run.queue_ttl_s - (self._cell.host.wall() - epoch_ms(run.created_at) / 1000), 0.0)
        self._register(envelope, digest, ttl_s)
        mailbox = self._cell.mailbox
        if run.status is RunStatus.QUEUED:
            mailbox.deliver(envelope, front=run.front)
        else:
            envelope.attempt = run.attempts
            mailbox.deliver_in_hand(envelope)
            if self._cell.ending and self._cell.aim is not None and self._cell.aim >= Aim.STOPPED:
                self._stopped(envelope)
            else:
                self.interrupted(envelope, lost=True, cause="the house died")

    # -- going out ---------------------------------------------------------------------------------------------------
    def supersede(self, run_id: str, by: str | None) -> None:
        """A queued run gives way to one that goes first."""
        self._withdraw(self.open[run_id].envelope, "cancelled", {"by": by, "reason": "superseded"})

    def check_cancel(self, body: Cancel) -> Step:
        run_id = body.run_id or self.active_id
        if run_id is None:
            raise InvalidState("No run is in hand or queued.", state=self._cell.state.value, allowed=["submit"])
        if run_id in self.open:
            return Step.CANCEL
        status = self.ended.get(run_id)
        if status is RunStatus.CANCELLED:
            return Step.REPEAT
        if status is None:
            raise NotFound(f"Engine {self._cell.spec.id} has no open run {run_id}.")
        raise InvalidState(f"Run {run_id} is {status} already.", state=status.value, allowed=[])

    def cancel(self, body: Cancel, command: Command) -> bool | None:
        """Withdraw a queued run; cut the one in hand, and settle the command with its end (None): a house that dies
        before that finds the command again, and the run queued.
        """
        run_id = body.run_id or self.active_id
        assert run_id is not None
        envelope = self.open[run_id].envelope
        if envelope in self._cell.mailbox.hand:
            hand = self.hand
            assert hand is not None
            self.open[run_id].cancels.append(command)
            hand.cancel(Cut.CANCELLED, by=command.principal, reason=body.reason, through=command.id)
            return None
        self._withdraw(envelope, "cancelled", {"by": command.principal, "reason": body.reason, "through": command.id})
        return True

    def _expire(self, envelope: Envelope) -> None:
        if envelope.attempt == 1 and self._cell.mailbox.find(envelope.run_id or "") is envelope:
            error = {"slug": "queue-ttl", "detail": "It waited in the queue for longer than its queue_ttl_s."}
            with self._cell.turn():
                self._withdraw(envelope, "timed_out", {"error": error}, settles="expired")

    def _withdraw(self, envelope: Envelope, how: str, data: dict[str, Any], settles: str | None = None) -> None:
        self._cell.mailbox.withdraw(envelope)
        self._end(envelope, how, data, settles)

    def finish(self, envelope: Envelope, how: str, data: dict[str, Any]) -> None:
        """The one end of the run in hand: completed, failed, cancelled or timed_out."""
        self._cell.mailbox.end(envelope, "handled")
        self._end(envelope, how, data)

    def _end(self, envelope: Envelope, how: str, data: dict[str, Any], settles: str | None = None) -> None:
        cell, run_id = self._cell, envelope.run_id
        assert run_id is not None
        with cell.turn():
            cell.slices.flush()
            cell.requests.withdraw(run_id, f"its run is {how}")
            found = self.open.pop(run_id)
            if found.ttl is not None:
                found.ttl.cancel()
            self._last_row(run_id, f"run.{how}", data)
            self.ended[run_id] = RunStatus(how)
            while len(self.ended) > REMEMBERED:
                del self.ended[next(iter(self.ended))]
            command = envelope.command
            if command is not None:
                outcome = {"problem": data["error"]} if data.get("error") else {"changed": True}
                cell.note(
                    f"command.{settles or SETTLES[how]}", outcome, command_id=command.id, principal=command.principal
                )
            for cancel in found.cancels:
                cell.complete(cancel, how == "cancelled")
            if cell.stalled:
                cell.stalled = False

    def cut(self, hand: InHand) -> None:
        """The run's scope was cancelled: what that means for the run."""
        envelope = hand.envelope
        usage = dict(hand.usage)
        match hand.cut:
            case Cut.CANCELLED:
                self.finish(
                    envelope,
                    "cancelled",
                    {"by": hand.by, "reason": hand.reason, "through": hand.through, "usage": usage},
                )
            case Cut.TIMED_OUT:
                error = {
                    "slug": "timeout",
                    "detail": f"It worked for longer than its timeout of {envelope.timeout_s} s.",
                }
                self.finish(envelope, "timed_out", {"error": error, "usage": usage})
            case Cut.PAUSED:
                self.interrupted(envelope, lost=False, cause="paused", policy=OnInterrupt.RETRY)
            case Cut.STALLED:
                self.interrupted(envelope, lost=True, cause="stalled", policy=OnInterrupt.RETRY)
            case _:
                self._stopped(envelope)

    def end_in_hand(self, exit: Exit) -> None:
        """The incarnation exited: whatever was in hand has exactly one end."""
        cell = self._cell
        for envelope in list(cell.mailbox.hand):
            if not envelope.is_run:
                cell.mailbox.end(envelope, "dead")
                self._dead(envelope, exit.error or "the engine was stopped")
            elif cell.ending:
                self._stopped(envelope)
            else:
                self.interrupted(envelope, lost=True, cause=exit.error or exit.cause.value)

    def _stopped(self, envelope: Envelope) -> None:
        by, reason = self._cell.stopped_by
        aim = self._cell.aim
        if aim is not None and aim >= Aim.STOPPED:
            self.finish(envelope, "cancelled", {"by": by, "reason": reason or aim.name.lower()})
        else:
            self.interrupted(envelope, lost=False, cause=reason or "restart")

    def interrupted(self, envelope: Envelope, *, lost: bool, cause: str, policy: OnInterrupt | None = None) -> None:
        """Leave it in its resting place, and from there at once to where the policy says."""
        cell = self._cell
        cancels = self.open[envelope.run_id or ""].cancels
        if cancels:  # it was on its way out already
            data = {"by": cancels[0].principal, "reason": cancels[0].body.reason, "through": cancels[0].id}
            self.finish(envelope, "cancelled", data)
            return
        envelope.lost += lost
        policy = policy or cell.spec.on_interrupt
        with cell.turn():
            cell.note(
                "run.interrupted",
                {"attempt": envelope.attempt, "lost": lost, "cause": cause},
                run_id=envelope.run_id,
            )
            if policy is OnInterrupt.FAIL or envelope.lost >= cell.spec.max_attempts:
                tries = f" on each of {envelope.lost} attempts" if envelope.lost > 1 else ""
                why = cause if cause.endswith(".") else f"{cause}."
                said = " ".join(filter(None, (why, cell.kind.interrupted, ANEW)))
                error = {"slug": "interrupted", "detail": f"It was interrupted{tries}: {said}"}
                self.finish(envelope, "failed", {"error": error})
            else:
                if cell.stalled:  # the next attempt is watched anew
                    cell.stalled = False
                    cell.note("engine.stalled", {"stalled": False}, run_id=envelope.run_id)
                envelope.attempt += 1
                envelope.resumed = policy is OnInterrupt.RESUME
                cell.mailbox.put_back(envelope)
                data = {"again": True, "attempt": envelope.attempt, "resumed": envelope.resumed}
                cell.note("run.queued", data, run_id=envelope.run_id)

    def bury(self, envelope: Envelope, reason: str, by: str | None) -> None:
        """A queued envelope of a disposed engine."""
        if envelope.run_id is not None:
            self._end_buried(envelope, reason, by)
        self._dead(envelope, reason)

    def _end_buried(self, envelope: Envelope, reason: str, by: str | None) -> None:
        cell, run_id = self._cell, envelope.run_id
        assert run_id is not None
        found = self.open.pop(run_id)
        if found.ttl is not None:
            found.ttl.cancel()
        cell.requests.withdraw(run_id, reason)
        self._last_row(run_id, "run.cancelled", {"by": by, "reason": reason})

    def _last_row(self, run_id: str, type: str, data: dict[str, Any]) -> None:
        """The end row counts in the digest as it is without it."""
        time, digest = self._cell.host.stamp(), self._cell.digests.pop(run_id)
        data = self._cell.secrets.masked(data)
        digest.add({"type": type, "time": time, "data": data})
        self._cell.note(type, {**data, "digest": digest.hex()}, run_id=run_id, time=time)

    def _dead(self, envelope: Envelope, reason: str) -> None:
        cell, command = self._cell, envelope.command
        if envelope.reply is not None:
            envelope.reply.fail(Undelivered(f"{envelope.name} to {cell.spec.id}: {reason}"))
        if command is None:
            return
        cell.note(
            "dead_letter.added",
            {"id": cell.host.new_id("dl"), "type": command.type, "body": as_json(command.body), "reason": reason},
            run_id=envelope.run_id,
            command_id=command.id,
        )
        cell.note("command.dead_lettered", {"reason": reason}, command_id=command.id, principal=command.principal)

    def close(self) -> None:
        """Stop every timer."""
        for found in self.open.values():
            if found.ttl is not None:
                found.ttl.cancel()
