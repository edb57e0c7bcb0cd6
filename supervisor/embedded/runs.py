"""Runs: across engines, their end, and their output."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

import trio

from protocol.commands import Cancel, Submit
from protocol.errors import InvalidState, RangeNotSatisfiable
from protocol.runs import Priority, Run, RunStatus
from protocol.wire import Accepted, Page, RunInfo
from supervisor.embedded.base import Base, fingerprint, page_of
from supervisor.house import NOBODY, Caller

__all__ = ["Runs"]

ENDED = tuple(status.value for status in RunStatus if status.ended)
READ = 1 << 16


class Runs(Base):
    """The part of `House` that is about runs."""

    async def runs(
        self, *, engine: str | None = None, pool: str | None = None, status: str | None = None, limit: int = 100,
        cursor: str | None = None,
    ) -> Page[RunInfo]:  # fmt: skip
        statuses = (status,) if status is not None else None
        found = await self._records("run", engine=engine, pool=pool, statuses=statuses, limit=limit, cursor=cursor)
        return page_of(found, limit, self._run_info, lambda run: int(run.seq))

    async def history(self, engine: str, *, page: int = 1, page_size: int = 50) -> tuple[list[RunInfo], int]:
        view = self._view(engine)
        total = sum(view.counts.get(f"run.{status}", 0) for status in ENDED)
        skip, cursor = (page - 1) * page_size, None
        items: list[Run] = []
        while len(items) < page_size:
            found = await self._records("run", engine=engine, statuses=ENDED, limit=page_size, cursor=cursor)
            take = found[:page_size]
            items += take[skip:]
            skip = max(skip - len(take), 0)
            if len(found) <= page_size:
                break
            cursor = str(take[-1].seq)
        return [self._run_info(run) for run in items[:page_size]], total

    async def run(self, id: str) -> RunInfo:
        return self._run_info(await self._run(id))

    async def run_events(self, id: str) -> list[dict[str, Any]]:
        await self._run(id)
        events: list[dict[str, Any]] = []
        after = 0
        while rows := await self.supervisor.store.read(
            after=after, until=self.supervisor.folded, run_id=id, limit=1000
        ):
            events += [row.envelope() for row in rows]
            after = rows[-1].seq
        return events

    async def cancel(self, run: str, caller: Caller = NOBODY, *, reason: str = "") -> RunInfo:
        found = await self._run(run)
        cell = self.supervisor.cells.get(found.uid)
        if found.status is RunStatus.CANCELLED:
            return self._run_info(found)
        body = Cancel(run_id=run, reason=reason)
        digest = fingerprint(caller, body)
        if found.status.ended or cell is None:
            refusal = InvalidState(f"Run {run} is {found.status} already.", state=found.status.value, allowed=[])
            await self.supervisor.intake.replay_or(refusal, caller, digest)
        else:
            await self.supervisor.intake.accept(cell, body, caller, digest=digest)
        return self._run_info(await self._run(run))

    async def retry(self, run: str, caller: Caller = NOBODY) -> tuple[RunInfo, Accepted]:
        found = await self._run(run)
        if not found.status.ended:
            raise InvalidState(
                f"Run {run} is {found.status}; only a run that has ended can be retried.",
                state=found.status.value,
                allowed=["cancel"],
            )
        body = Submit(
            input=found.input, priority=Priority(found.priority), timeout_s=found.timeout_s,
            queue_ttl_s=found.queue_ttl_s, labels=found.labels,
        )  # fmt: skip
        receipt = await self.supervisor.intake.accept(
            self._cell(found.engine_id), body, caller, digest=fingerprint(caller, "retry", run), retry_of=run,
            asked_by=found.asked_by,
        )  # fmt: skip
        accepted = await self._accepted(receipt)
        assert accepted.run_id is not None
        return self._run_info(await self._run(accepted.run_id)), accepted

    async def resume_run(self, run: str, caller: Caller = NOBODY) -> RunInfo:
        """A run goes on by itself as soon as its last request is decided, and an interrupted one is queued again at
        once; so what can be continued already is, and everything else is refused.
        """
        found = await self._run(run)
        view = self.supervisor.views.get(found.uid)
        waits = view is not None and any(r.run_id == run and r.state == "pending" for r in view.requests.values())
        goes_on = found.status is RunStatus.RUNNING or (found.status is RunStatus.QUEUED and found.front)
        if waits or not goes_on:
            raise InvalidState(
                f"Run {run} is {found.status}{' for a decision' if waits else ''} and cannot be continued.",
                state=found.status.value,
                allowed=["reply", "cancel"] if waits else [],
            )
        return self._run_info(found)

    # -- output ------------------------------------------------------------------------------------------------------
    async def output(self, run: str, *, after: int = 0, limit: int = 1 << 20) -> tuple[bytes, int]:
        await self._run(run)
        path = self.supervisor.runs_directory / f"{run}.out"

        def read() -> tuple[bytes, int]:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return b"", 0
            try:
                return os.pread(descriptor, limit, after), os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)

        data, size = await trio.to_thread.run_sync(read) if self.supervisor.threads else read()
        if after > size:
            raise RangeNotSatisfiable(f"The output has {size} bytes so far.", size_bytes=size)
        return data, size

    async def follow(self, run: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        found = await self._run(run)
        house = self.supervisor
        ring = house.rings.join(found.uid, house.folded)
        try:
            while True:
                open_still = self._is_open(run, found.uid)
                place = ring.next
                data, _ = await self.output(run, after=after, limit=READ)
                if data:
                    after += len(data)
                    yield data
                elif not open_still or house.over:
                    return
                else:
                    while ring.next == place and self._is_open(run, found.uid) and not house.over:
                        await ring.lot.park()
        finally:
            house.rings.leave(found.uid, ring)

    def _is_open(self, run: str, uid: str) -> bool:
        view = self.supervisor.views.get(uid)
        return view is not None and run in view.runs
