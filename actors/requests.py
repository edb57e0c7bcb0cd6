"""The questions one engine has open: asked, found again by a retried run, decided once, used once, or withdrawn.

Kept here are the pending ones and the answers that nobody used yet; the rest is history in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.host import Timer
from protocol.commands import Answer, Approve, Reject, Reply, Skip
from protocol.edge import as_json
from protocol.errors import (
    AmbiguousRequest,
    ApprovalStale,
    NothingPending,
    RequestClosed,
    ValidationFailed,
)
from protocol.requests import (
    Decided,
    OptionKind,
    Request,
    RequestKind,
    RequestState,
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

    @property
    def pending(self) -> list[Request]:
        return [r for r in self._open.values() if r.state is RequestState.PENDING]

    def pending_of(self, run_id: str | None) -> list[Request]:
        return [r for r in self.pending if r.run_id == run_id]

    def restore(self, requests: dict[str, Request]) -> None:
        """Take over what the journal says, and set the deadlines again."""
        for request in requests.values():
            self._open[request.id] = request
            self._arm(request)

    # -- asking ------------------------------------------------------------------------------------------------------
    def ask(
        self, run_id: str | None, digest: str, asked: dict[str, Any], *, deadline_s: float | None, default: str | None
    ) -> Request:
        """The run's open request with this digest, or a new one; `run.waiting` says that the run waits for it."""
        cell = self._cell
        with cell.turn():
            request = next((r for r in self._open.values() if r.run_id == run_id and r.digest == digest), None)
            if request is None or run_id is None:
                deadline = cell.host.stamp_at(cell.host.wall() + deadline_s) if deadline_s is not None else None
                row = cell.note(
                    "request.opened",
                    {
                        "request_id": cell.host.new_id("req"),
                        **asked,
                        "digest": digest,
                        "deadline": deadline,
                        "default": default,
                    },
                    run_id=run_id,
                )
                opened = fold_request(None, row)
                assert opened is not None
                request = self._open[opened.id] = opened
                self._arm(request)
            if run_id is not None and request.state is RequestState.PENDING:
                cell.note("run.waiting", {"request_id": request.id}, run_id=run_id)
        return request

    def use(self, request: Request) -> None:
        """The answer is acted upon now; another attempt of the run has to ask again."""
        if self._open.pop(request.id, None) is not None:
            self._remember(request)
            self._cell.note("request.used", {"request_id": request.id}, run_id=request.run_id)

    # -- deciding ----------------------------------------------------------------------------------------------------
    def resolve(self, body: Reply | Approve | Reject | Skip | Answer) -> tuple[Request, Decided]:
        """The request that a reply means, and the decision that it makes. Raises what forbids it; changes nothing."""
        request = self._meant(body)
        if request.state is not RequestState.PENDING:
            raise closed(request)
        if isinstance(body, Answer):  # the same rules: an approval is decided by one of its options alone
            body = Reply(request_id=body.request_id, answer=body.answer)
        if isinstance(body, Reply):
            if body.digest is not None and body.digest != request.digest:
                raise ApprovalStale(
                    "What is asked is not what you saw. Read the request again and decide anew.", digest=request.digest
                )
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
            return request, Decided(option=body.option, answer=body.answer, comment=body.comment)
        if isinstance(body, Approve):
            return request, Decided(option=self._option(request, OptionKind.ALLOW_ONCE), comment=body.comment)
        if isinstance(body, Reject):
            return request, Decided(option=self._option(request, OptionKind.REJECT_ONCE), comment=body.feedback)
        return request, Decided(option=self._option(request, OptionKind.SKIP))

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
        cell = self._cell
        decision = Decided(
            option=decision.option, answer=decision.answer, comment=decision.comment, by=by, at=cell.host.stamp()
        )
        request.state, request.decision = RequestState.ANSWERED, decision
        self._closed(request, "request.decided", {"decision": as_json(decision)})
        if request.run_id is None:  # no later attempt can come back for it: its asker has it in hand
            self._remember(self._open.pop(request.id))

    def withdraw(self, run_id: str | None, reason: str) -> None:
        """End what a run has pending, and forget its unused answers; None: what was asked outside any run."""
        for request in [r for r in self._open.values() if r.run_id == run_id]:
            self._withdraw(request, reason)

    def withdraw_all(self, reason: str) -> None:
        for request in list(self._open.values()):
            self._withdraw(request, reason)

    def _withdraw(self, request: Request, reason: str) -> None:
        del self._open[request.id]
        self._remember(request)
        if request.state is RequestState.PENDING:
            request.state, request.reason = RequestState.WITHDRAWN, reason
            self._closed(request, "request.withdrawn", {"reason": reason})

    # -- deadlines ---------------------------------------------------------------------------------------------------
    def _arm(self, request: Request) -> None:
        if request.deadline is None or request.state is not RequestState.PENDING:
            return
        host = self._cell.host
        left_s = epoch_ms(request.deadline) / 1000 - host.wall()
        self._timers[request.id] = host.at(host.now() + max(left_s, 0), lambda: self._due(request))

    def _due(self, request: Request) -> None:
        if request.state is not RequestState.PENDING:
            return
        with self._cell.turn():
            may_default = request.kind is RequestKind.QUESTION or is_refusal(request.options, request.default)
            if request.default is not None and may_default:
                self.decide(request, Decided(option=request.default), by="deadline")
            else:
                request.state = RequestState.EXPIRED
                del self._open[request.id]
                self._remember(request)
                self._closed(request, "request.expired", {})

    # -- within ------------------------------------------------------------------------------------------------------
    def _closed(self, request: Request, type: str, data: dict[str, Any]) -> None:
        timer = self._timers.pop(request.id, None)
        if timer is not None:
            timer.cancel()
        still_open = len(self.pending_of(request.run_id))
        self._cell.note(type, {"request_id": request.id, **data, "open": still_open}, run_id=request.run_id)
        self._cell.lot.unpark_all()

    def _remember(self, request: Request) -> None:
        self._ended[request.id] = request
        while len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def close(self) -> None:
        """Stop every deadline: the engine is disposed, or the house closes."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
