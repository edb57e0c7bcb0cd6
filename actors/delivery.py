"""What a command does to a cell: looked up in the plan, carried out in one turn, settled in the same write.

Legality is decided with `check`, once when a command is submitted and again when it is delivered, after it became
durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.envelope import Envelope
from protocol.authority import Authority
from protocol.commands import Cancel, Command, Dispose, Pause, Restart, Resume, Signal, Spawn, Stop, Submit, verb_of
from protocol.decide import History
from protocol.errors import EngineBusy, EnginehouseError
from protocol.plan import AIMS, Step

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["check", "deliver"]


def check(cell: Cell, body: Any, principal: str | None = None, authority: Authority | None = None) -> Step:
    """Whether `body` is legal now: raises what refuses it, and changes nothing. `authority`: of the `principal`, where
    it is known (None: it was looked at before).
    """
    verb = verb_of(body)
    held = cell.held
    if isinstance(body, Resume):
        held = bool(cell.holds.keys() - ({body.holder} if body.holder != "*" else cell.holds.keys()))
    step = cell.step(verb, held=held)
    if step is Step.REFUSED:
        raise cell.refusal(body.type)
    if isinstance(body, Resume) and (body.holder not in cell.holds and not (body.holder == "*" and cell.holds)):
        return Step.REPEAT
    if isinstance(body, Submit):
        cell.runs.check(body)
    elif isinstance(body, Dispose) and not body.force and cell.busy and not cell.ending:
        raise EngineBusy(
            f"Engine {cell.spec.id} has work in hand or queued. Cancel it, or dispose with force.",
            active_run=cell.runs.active_id,
        )
    elif isinstance(body, Cancel):
        return cell.runs.check_cancel(body)
    elif step is Step.REPLY:
        cell.requests.resolve(body, principal, authority)
    return step


def deliver(cell: Cell, command: Command) -> EnginehouseError | None:
    """Apply a durable command, in journal order. The error, when it is no longer legal: it was then rejected."""
    body = command.body
    with cell.turn():
        try:
            step = check(cell, body, command.principal)
        except EnginehouseError as error:
            cell.reject(command, error)
            return error
        cell.about = command
        try:
            if isinstance(body, Submit):
                cell.runs.queue(command, cell.runs.envelope(command))
            elif isinstance(body, Signal):
                cell.receive(Envelope(body.name, body.payload, command=command, at=cell.host.now()))
            elif isinstance(body, Spawn) and not body.start:
                cell.complete(command, True)
            else:
                before = (cell.state, cell.aim, len(cell.holds))
                changed = _apply(cell, step, command)
                if changed is not None:
                    cell.complete(command, changed or before != (cell.state, cell.aim, len(cell.holds)))
        finally:
            cell.about = None
    cell.lot.unpark_all()
    return None


def _apply(cell: Cell, step: Step, command: Command) -> bool | None:
    """Carry out one step; True: it changed what state, aim and holds do not show; None: settled later."""
    body = command.body
    match step:
        case Step.REPEAT if isinstance(body, Stop) and cell.waiting_for_place is not None:
            cell.settle_waiting(changed=False)  # it is stopped, and was about to start
        case Step.REPEAT:
            return False
        case Step.NOTED | Step.HOLD | Step.RELEASE | Step.WAKE if isinstance(body, Pause):
            return cell.hold(body, command.principal)
        case Step.NOTED | Step.RELEASE | Step.WAKE:
            cell.lift(body, step)
        case Step.BOOT | Step.BOOT_FRESH:
            if isinstance(body, Resume):
                cell.lift(body, step)
                return True
            if step is Step.BOOT_FRESH:
                cell.history = History()
            return cell.boot("restart" if body.type == "restart" else body.type, command)
        case Step.STOP | Step.STOP_NOW | Step.RAISE | Step.ENDED | Step.DISPOSED:
            assert isinstance(body, Stop | Restart | Dispose)
            if step is Step.DISPOSED:  # settled first: `engine.disposed` is to be the last row
                cell.complete(command, changed=True)
            grace_s = cell.spec.grace_s if body.grace_s is None else body.grace_s
            changed = cell.end(
                AIMS[verb_of(body)],
                0.0 if step is Step.STOP_NOW else grace_s,
                by=command.principal,
                reason=body.reason,
            )
            return None if step is Step.DISPOSED else changed
        case Step.CANCEL:
            return cell.runs.cancel(body, command)
        case Step.REPLY:
            request, decision = cell.requests.resolve(body, command.principal)
            cell.requests.decide(request, decision, by=command.principal or "nobody")
        case _:
            raise AssertionError(step)
    return True
