"""The questions one engine has open: asked, found again by a retried run, decided once, used once, or withdrawn.

Kept here are the pending ones and the answers that nobody used yet; the rest is history in the journal.

An approval holds for a time. Wall time says for how long, because people live in it; but a clock that is set back does
not make it hold longer: the monotonic clock bounds it as well, and so does, after a restart, the last time that the
journal knows. In doubt it does not hold, and the run asks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.host import Timer
from actors.question import Question
from protocol.answers import check_answer
from protocol.authority import Authority
from protocol.commands import Answer, Approve, Reject, Reply, Skip
from protocol.deciding import check_digest, may_decide
from protocol.edge import as_json
from protocol.errors import AmbiguousRequest, NothingPending, RequestClosed, ValidationFailed
from protocol.requests import (
    Decided,
    OptionKind,
    Request,
    RequestKind,
    RequestState,
    approves,
    closed,
    fold_request,
    is_refusal,
)
from protocol.times import epoch_ms

if TYPE_CHECKING:
    from actors.cell import Cell

__all__ = ["Requests"]

REMEMBERED = 64
"""How many ended requests are remembered, so that a second decision is told of the first."""


class Requests:
    """See the module. Every change is synchronous and is written in the cell's present turn."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._open: dict[str, Request] = {}
        self._ended: dict[str, Request] = {}
        self._timers: dict[str, Timer] = {}
        self._escalations: dict[str, Timer] = {}
        self._holds_until: dict[str, float] = {}
        self._askers: Counter[str] = Counter()

    @property
    def pending(self) -> list[Request]:
        return [r for r in self._open.values() if r.state is RequestState.PENDING]

    def pending_of(self, run_id: str | None) -> list[Request]:
        return [r for r in self.pending if r.run_id == run_id]

    def restore(self, requests: dict[str, Request], seen_at: str) -> None:
        """Take over what the journal says, and set the clocks again. `seen_at`: the last time that the journal knows.

        Each is a copy: a view shows what is durable, and what is decided here becomes that later.
        """
        now = max(self._cell.host.wall(), epoch_ms(seen_at) / 1000) if seen_at else self._cell.host.wall()
        for request in requests.values():
            self._open[request.id] = own = replace(request)
            self._arm(own, now)
            if own.decision is not None:
                self._hold(own, now)

    # -- asking ------------------------------------------------------------------------------------------------------
    def ask(self, run_id: str | None, question: Question) -> Request:
        """The run's open request that asks the same, or a new one; `run.waiting` says that the run waits for it."""
        with self._cell.turn():
            request = self._found(run_id, question.action_digest)
            if request is None:
                self._drop_changed(run_id, question)
                request = self._opened(run_id, question)
            if run_id is not None and request.state is RequestState.PENDING:
                self._cell.note("run.waiting", {"request_id": request.id}, run_id=run_id)
        return request

    def _found(self, run_id: str | None, action_digest: str) -> Request | None:
        """Outside a run, nobody comes back for an earlier question."""
        for request in self._open.values():
            if run_id is not None and request.run_id == run_id and request.action_digest == action_digest:
                if not self._lapsed(request):
                    return request
                self._void(request, "expired")
                return None
        return None

    def _drop_changed(self, run_id: str | None, question: Question) -> None:
        """What the run asked before in these words, with other arguments, and nobody waits for any more."""
        for request in list(self._open.values()):
            same = (request.run_id, request.kind, request.title) == (
                run_id,
                question.asked["kind"],
                question.asked["title"],
            )
            if same and run_id is not None and not self._askers[request.id]:
                if request.state is RequestState.PENDING:
                    self._withdraw(request, "changed")
                else:
                    self._void(request, "changed")

    def _opened(self, run_id: str | None, question: Question) -> Request:
        cell, host = self._cell, self._cell.host
        now = host.wall()
        nonce, rules = host.nonce(), host.rules(cell)
        escalate_s = rules.escalate_after_s if question.escalate_s is None else question.escalate_s
        row = cell.note(
            "request.opened",
            {
                "request_id": host.new_id("req"),
                **question.asked,
                "action_digest": question.action_digest,
                "nonce": nonce,
                "digest": question.digest(uid=cell.spec.uid, run_id=run_id, nonce=nonce),
                "asked_by": self._behind(run_id),
                "deadline": None if question.deadline_s is None else host.stamp_at(now + question.deadline_s),
                "default": question.default,
                "valid_s": question.valid_s,
                "escalate_s": list(escalate_s),
            },
            run_id=run_id,
        )
        request = fold_request(None, row)
        assert request is not None
        self._open[request.id] = request
        self._arm(request, now)
        return request

    def _behind(self, run_id: str | None) -> list[str]:
        """The principals behind the run; outside any run, behind the signals in hand."""
        if run_id is None:
            signals = [envelope.command for envelope in self._cell.mailbox.hand if not envelope.is_run]
            return list(dict.fromkeys(name for command in signals if command for name in command.asked_by))
        run = self._cell.runs.open.get(run_id)
        command = run.envelope.command if run is not None else None
        return list(command.asked_by) if command is not None else []

    @contextmanager
    def asking(self, request: Request) -> Iterator[None]:
        """Somebody has the question in hand: another one in the same words is not the same one changed."""
        self._askers[request.id] += 1
        try:
            yield
        finally:
            self._askers[request.id] -= 1
            self._askers += Counter()  # drops what is zero

    def use(self, request: Request) -> bool:
        """The answer is acted upon now; another attempt of the run has to ask again. False: it cannot be, since it
        has expired, is void, or was used by somebody else; whoever needs it has to ask again.
        """
        if request.used or request.voided is not None or (request.run_id is not None and request.id not in self._open):
            return False
        if self._lapsed(request):
            self._void(request, "expired")
            return False
        request.used = True
        self._end(request)
        self._cell.note("request.used", {"request_id": request.id}, run_id=request.run_id)
        return True

    def holds(self, request: Request) -> bool:
        """Whether the decision, also one that was used, is still good for acting upon it."""
        return not self._lapsed(request)

    # -- deciding ----------------------------------------------------------------------------------------------------
    def resolve(
        self,
        body: Reply | Approve | Reject | Skip | Answer,
        principal: str | None,
        authority: Authority | None = None,
    ) -> tuple[Request, Decided]:
        """The request that a reply means, and the decision that it makes. Raises what forbids it; changes nothing."""
        request = self._meant(body)
        self.may_decide(request, principal, authority)
        if request.state is not RequestState.PENDING:
            raise closed(request)
        if isinstance(body, Answer):  # the same rules: an approval is decided by one of its options alone
            body = Reply(request_id=body.request_id, answer=body.answer)
        if isinstance(body, Reply):
            if body.option is not None and all(o.id != body.option for o in request.options):
                raise ValidationFailed(
                    f"{body.option!r} is no option; choose one of: {', '.join(o.id for o in request.options)}.",
                    errors=[{"loc": ["option"], "msg": "not an option of this request", "type": "option"}],
                )
            if body.option is None and request.options and request.kind is not RequestKind.QUESTION:
                raise ValidationFailed(
                    f"Choose an option: {', '.join(o.id for o in request.options)}.",
                    errors=[{"loc": ["option"], "msg": "an option is needed", "type": "missing"}],
                )
            check_digest(request, body.option, body.digest, pool=self._cell.host.rules(self._cell))
            if request.schema is not None and (body.option is None or body.answer is not None):
                check_answer(request.schema, body.answer)
            return request, Decided(option=body.option, answer=body.answer, comment=body.comment)
        if isinstance(body, Approve):
            option = self._option(request, OptionKind.ALLOW_ONCE)
            check_digest(request, option, body.digest, pool=self._cell.host.rules(self._cell))
            return request, Decided(option=option, comment=body.comment)
        if isinstance(body, Reject):
            return request, Decided(option=self._option(request, OptionKind.REJECT_ONCE), comment=body.feedback)
        return request, Decided(option=self._option(request, OptionKind.SKIP))

    def may_decide(self, request: Request, principal: str | None, authority: Authority | None = None) -> None:
        """Raises InsufficientScope when they may not decide it."""
        host = self._cell.host
        may_decide(request, principal=principal, authority=authority, pool=host.rules(self._cell), person=host.person)

    def _meant(self, body: Reply | Approve | Reject | Skip | Answer) -> Request:
        if body.request_id is not None:
            request = self._open.get(body.request_id) or self._ended.get(body.request_id)
            if request is None:
                raise RequestClosed(f"Request {body.request_id} is not open here; it may have ended long ago.")
            return request
        waiting = [r for r in self.pending if r.kind is not RequestKind.QUESTION]
        if not waiting:
            raise NothingPending("No approval or permission waits for a decision on this engine.")
        if len(waiting) > 1:
            raise AmbiguousRequest(
                "Several requests wait; name one with `request_id`.", pending=[r.id for r in waiting]
            )
        return waiting[0]

    @staticmethod
    def _option(request: Request, kind: OptionKind) -> str:
        for option in request.options:
            if option.kind is kind:
                return option.id
        raise ValidationFailed(
            f"Request {request.id} has no option of kind {kind}; reply with one of its options instead.",
            errors=[{"loc": ["type"], "msg": f"no option of kind {kind}", "type": "option"}],
        )

    def decide(self, request: Request, decision: Decided, *, by: str) -> None:
        """The one decision. Who waits for it goes on once this is durable and the engine is not held."""
        host = self._cell.host
        now, expires_at = host.wall(), None
        if request.valid_s is not None and (request.kind is RequestKind.QUESTION or approves(request, decision.option)):
            expires_at = host.stamp_at(now + request.valid_s)
        decision = replace(decision, by=by, at=host.stamp_at(now), expires_at=expires_at)
        request.state, request.decision = RequestState.ANSWERED, decision
        self._closed(request, "request.decided", {"decision": as_json(decision)})
        if request.run_id is None:  # no later attempt can come back for it: its asker has it in hand
            self._end(request)
        self._hold(request, now)

    def withdraw(self, run_id: str | None, reason: str) -> None:
        """End what a run has pending, and forget its unused answers; None: what was asked outside any run."""
        for request in [r for r in self._open.values() if r.run_id == run_id]:
            self._withdraw(request, reason)

    def withdraw_unasked(self, run_id: str | None) -> None:
        """End what a run has pending and no task of it waits for."""
        for request in self.pending_of(run_id):
            if not self._askers[request.id]:
                self._withdraw(request, "nobody waits for it")

    def withdraw_all(self, reason: str) -> None:
        for request in list(self._open.values()):
            self._withdraw(request, reason)

    def _withdraw(self, request: Request, reason: str) -> None:
        self._end(request)
        if request.state is RequestState.PENDING:
            request.state, request.reason = RequestState.WITHDRAWN, reason
            self._closed(request, "request.withdrawn", {"reason": reason})

    def _void(self, request: Request, reason: str) -> None:
        """An answer that was not used never will be."""
        request.voided = reason
        self._end(request)
        self._cell.note("request.voided", {"request_id": request.id, "reason": reason}, run_id=request.run_id)
        self._cell.lot.unpark_all()

    # -- clocks ------------------------------------------------------------------------------------------------------
    def _arm(self, request: Request, now: float) -> None:
        """Set the deadline and the next escalation. `now`: wall time."""
        if request.state is not RequestState.PENDING:
            return
        if request.deadline is not None:
            self._timers[request.id] = self._at(epoch_ms(request.deadline) / 1000 - now, lambda: self._due(request))
        if request.level < len(request.escalate_s):
            due = epoch_ms(request.created_at) / 1000 + request.escalate_s[request.level]
            self._escalations[request.id] = self._at(due - now, lambda: self._escalate(request))

    def _at(self, left_s: float, fn: Callable[[], object]) -> Timer:
        host = self._cell.host
        return host.at(host.now() + max(left_s, 0), fn)

    def _due(self, request: Request) -> None:
        if request.state is not RequestState.PENDING:
            return
        with self._cell.turn():
            may_default = request.kind is RequestKind.QUESTION or is_refusal(request.options, request.default)
            if request.default is not None and may_default:
                self.decide(request, Decided(option=request.default), by="deadline")
            else:
                request.state = RequestState.EXPIRED
                self._end(request)
                self._closed(request, "request.expired", {})

    def _escalate(self, request: Request) -> None:
        """Nobody decided for so long: the next level is told, once."""
        if request.state is not RequestState.PENDING:
            return
        request.level += 1
        data = {
            "request_id": request.id,
            "level": request.level,
            "levels": len(request.escalate_s),
            "nobody_watching": not self._cell.host.watched(request),
        }
        request.escalated_at = self._cell.note("request.escalated", data, run_id=request.run_id).time
        if request.level < len(request.escalate_s):
            later_s = request.escalate_s[request.level] - request.escalate_s[request.level - 1]
            self._escalations[request.id] = self._at(later_s, lambda: self._escalate(request))

    def _hold(self, request: Request, now: float) -> None:
        """From now on the approval holds for so long, on either clock, and is void afterwards."""
        decision = request.decision
        if decision is None or decision.expires_at is None:
            return
        whole_s = (epoch_ms(decision.expires_at) - epoch_ms(decision.at)) / 1000
        left_s = max(min(epoch_ms(decision.expires_at) / 1000 - now, whole_s), 0)
        self._holds_until[request.id] = self._cell.host.now() + left_s
        if request.id in self._open:
            self._timers[request.id] = self._at(left_s, lambda: self._lapse(request))

    def _lapse(self, request: Request) -> None:
        if request.id in self._open:
            self._void(request, "expired")

    def _lapsed(self, request: Request) -> bool:
        """Whether what was decided is no approval any more. What cannot be told has lapsed."""
        decision, host = request.decision, self._cell.host
        if decision is None or decision.expires_at is None:
            return False
        until = self._holds_until.get(request.id)
        return until is None or not (host.now() < until and host.wall() < epoch_ms(decision.expires_at) / 1000)

    # -- within ------------------------------------------------------------------------------------------------------
    def _closed(self, request: Request, type: str, data: dict[str, Any]) -> None:
        self._quiet(request)
        still_open = len(self.pending_of(request.run_id))
        self._cell.note(type, {"request_id": request.id, **data, "open": still_open}, run_id=request.run_id)
        self._cell.lot.unpark_all()

    def _quiet(self, request: Request) -> None:
        """Stop its clocks."""
        for timers in (self._timers, self._escalations):
            timer = timers.pop(request.id, None)
            if timer is not None:
                timer.cancel()

    def _end(self, request: Request) -> None:
        """It is open no more, and remembered for a while."""
        self._quiet(request)
        self._open.pop(request.id, None)
        self._ended[request.id] = request
        while len(self._ended) > REMEMBERED:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._holds_until.pop(oldest, None)

    def close(self) -> None:
        """Stop every clock: the engine is disposed, or the house closes."""
        for timer in (*self._timers.values(), *self._escalations.values()):
            timer.cancel()
        self._timers.clear()
        self._escalations.clear()
