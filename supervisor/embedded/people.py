"""People: the questions that engines put to them, and the dead letters that they look after."""

from __future__ import annotations

from typing import Literal

from protocol.authority import Scope
from protocol.bodies import ReplyBody
from protocol.commands import Reply, Signal, Submit
from protocol.edge import load
from protocol.errors import EnginehouseError, InsufficientScope, InvalidState, NotFound
from protocol.events import Row
from protocol.records import DeadLetter
from protocol.requests import Request, RequestState, closed
from protocol.runs import Run
from protocol.wire import Accepted, DeadLetterInfo, Page, RequestInfo
from supervisor.embedded.base import Base, fingerprint, page_of
from supervisor.house import NOBODY, Caller
from supervisor.infos import dead_letter_info, request_info
from supervisor.receipts import Receipt
from supervisor.standing import check_standing

__all__ = ["People"]

STATES = {
    "pending": (RequestState.PENDING.value,),
    "decided": (RequestState.ANSWERED.value, RequestState.EXPIRED.value, RequestState.WITHDRAWN.value),
}


class People(Base):
    """The part of `House` that is about requests and dead letters."""

    async def requests(
        self, *, state: Literal["pending", "decided"] | None = "pending", kind: str | None = None,
        pool: str | None = None, engine: str | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[RequestInfo]:  # fmt: skip
        statuses = STATES[state] if state is not None else None
        found: list[Request] = []
        while len(found) <= limit:
            page = await self._records(
                "request", engine=engine, pool=pool, statuses=statuses, limit=limit, cursor=cursor
            )
            found += [r for r in page if kind is None or r.kind == kind]
            if len(page) <= limit:
                break
            cursor = str(page[-1].seq)
        return page_of(found, limit, self._request_info, lambda request: int(request.seq))

    async def _request(self, id: str) -> Request:
        record = await self._record("request", id, "request")
        assert isinstance(record, Request)
        return record

    async def request(self, id: str) -> RequestInfo:
        return self._request_info(await self._request(id))

    def _request_info(self, request: Request) -> RequestInfo:
        return request_info(request, watched=self.supervisor.watched(request))

    def _over(self, request: Request, caller: Caller) -> EnginehouseError:
        """Why this caller cannot decide a request that has ended."""
        try:
            self.supervisor.may_decide(request, caller.principal)
        except InsufficientScope as refusal:
            return refusal
        return closed(request)

    async def reply(self, id: str, reply: ReplyBody, caller: Caller = NOBODY) -> RequestInfo:
        request = await self._request(id)
        body = Reply(
            request_id=id, option=reply.option, answer=reply.answer, comment=reply.comment, digest=reply.digest
        )
        cell, digest = self.supervisor.cells.get(request.uid), fingerprint(caller, body)
        if cell is None or request.state is not RequestState.PENDING:
            refusal = self._over(request, caller)
            await self.supervisor.intake.replay_or(refusal, caller, digest)
            return self._request_info(request)
        await self.supervisor.intake.accept(cell, body, caller, digest=digest)
        await self.supervisor.watch(
            request.uid,
            lambda view: id not in view.requests or view.requests[id].state is not RequestState.PENDING,
        )
        return self._request_info(await self._request(id))

    # -- dead letters ------------------------------------------------------------------------------------------------
    async def dead_letters(
        self, *, engine: str | None = None, pool: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[DeadLetterInfo]:
        found = await self._records(
            "dead_letter", engine=engine, pool=pool, statuses=("dead",), limit=limit, cursor=cursor
        )
        return page_of(found, limit, dead_letter_info, lambda letter: int(letter.seq))

    async def _dead_letter(self, id: str) -> DeadLetter:
        record = await self._record("dead_letter", id, "dead letter")
        assert isinstance(record, DeadLetter)
        if record.state == "discarded":
            raise NotFound(f"There is no dead letter {id!r}.")
        return record

    async def redeliver(self, id: str, caller: Caller = NOBODY) -> Accepted:
        """A new command to the engine that has the id now; a run becomes a new run with `retry_of`."""
        async with self.supervisor.letters:
            return await self._accepted(await self._redeliver(id, caller))

    async def _redeliver(self, id: str, caller: Caller) -> Receipt:
        await self.supervisor.intake.write_and_wait(())  # behind what a caller has sent that did not wait for it
        letter = await self._dead_letter(id)
        digest = fingerprint(caller, "redeliver", id)
        if letter.state != "dead":
            refusal = InvalidState(f"Dead letter {id} was redelivered already.", state=letter.state, allowed=[])
            return await self.supervisor.intake.replay_or(refusal, caller, digest)
        cell = self._cell(letter.engine_id)
        body: Submit | Signal
        asked_by: list[str] = []
        if letter.type == "submit":
            run = await self._run(letter.run_id or "")
            assert isinstance(run, Run)
            asked_by = run.asked_by
            body = Submit(
                input=run.input, priority=run.priority, timeout_s=run.timeout_s, queue_ttl_s=run.queue_ttl_s,
                labels=run.labels,
            )  # fmt: skip
        else:
            body = load(Signal, letter.body)
        return await self.supervisor.intake.accept(
            cell, body, caller, digest=digest, retry_of=letter.run_id, asked_by=asked_by,
            more=lambda command: (self._letter_row(letter, "redelivered", caller, command_id=command.id),),
        )  # fmt: skip

    async def discard(self, id: str, caller: Caller = NOBODY) -> None:
        async with self.supervisor.letters:
            await self.supervisor.intake.write_and_wait(())  # as in `_redeliver`
            letter = await self._dead_letter(id)
            check_standing(caller, Scope.OPERATE, pool=letter.pool, uid=letter.uid)
            discarded = self._letter_row(letter, "discarded", caller)
            await self.supervisor.intake.write_and_wait((discarded,), caller.trail)

    def _letter_row(self, letter: DeadLetter, what: str, caller: Caller, **more: str) -> Row:
        return Row(
            type=f"dead_letter.{what}", time=self.supervisor.stamp(), uid=letter.uid, engine_id=letter.engine_id,
            pool=letter.pool, data={"id": letter.id, **more}, run_id=letter.run_id, principal=caller.principal,
        )  # fmt: skip
