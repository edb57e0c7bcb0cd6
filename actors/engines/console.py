"""The session of an engine that has one: opened anew when its shell has ended, and never left with a command that
nobody wants. What it is a session of is its own matter (`session.py`, `tmux/session.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import trio

from actors.context import Context
from actors.engine import RunFailed
from actors.engines.job import Job

__all__ = ["Console"]


class Seat(Protocol):
    """A shell that takes one command after another."""

    @property
    def prepare(self) -> str:
        """The first command of a session."""

    @property
    def usable(self) -> bool:
        """It takes commands, as far as one can tell."""

    @abstractmethod
    def begin(self, job: Job, command: str) -> None: ...

    @abstractmethod
    async def end(self, job: Job) -> None:
        """Bring it to its end, and all that it started."""

    @abstractmethod
    def kill(self, job: Job) -> None:
        """The same in a frozen session, as far as that goes: `end` is to follow."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    async def attend(self, ctx: Context) -> None: ...


S = TypeVar("S", bound=Seat)


class Console(Generic[S]):
    """`ctx`: the incarnation's; `open`: makes a session, which nobody attends to yet; `shell`: what its errors name.

    Tell it that the engine is held, and released.
    """

    def __init__(self, ctx: Context, open: Callable[[], Awaitable[S]], shell: str) -> None:
        self.session: S | None = None
        self._ctx, self._open, self._shell = ctx, open, shell
        self._held = False
        self._given_up: tuple[S, Job] | None = None  # while held
        self._free = trio.Event()  # nothing that was given up comes to its end
        self._free.set()

    async def idle(self) -> S:
        """The session, with nothing in hand; a new one where its shell has ended. Raises as `begin`."""
        if not self._free.is_set():
            async with self._ctx.process_wait():
                await self._free.wait()
        if self.session is not None and self.session.usable:
            return self.session
        if self.session is not None:
            self._ctx.log("The shell had ended; this is a new session.", level="warning")
        return await self.begin()

    async def begin(self) -> S:
        """A new session. Raises what `open` raises, and RunFailed (`cannot-start`) for a shell that takes no
        commands.
        """
        session = await self._open()
        self._ctx.nursery.start_soon(session.attend, self._ctx)
        job = Job()
        session.begin(job, session.prepare)
        try:
            async with self._ctx.process_wait():
                await job.done.wait()
        finally:
            ready = job.status == 0 and job.begun.is_set()
            if not ready:
                session.close()
        if not ready:
            ended = f" and ended with status {job.status}" if job.status is not None else ""
            raise RunFailed("cannot-start", f"The shell {self._shell!r} does not take commands{ended}.")
        self.session = session
        return session

    def take(self, session: S) -> None:
        """Attend to a session that was begun before; it is the one from now on."""
        self.session = session
        self._ctx.nursery.start_soon(session.attend, self._ctx)

    async def settled(self, job: Job, timeout_s: float | None) -> bool:
        """Wait until the command in hand is settled. False: its time was over first, and it was ended; the time counts
        from when it begins, and stands still while paused. Cancelled: it is brought to its end, unless it is left to
        the next house.
        """
        session = self.session
        assert session is not None
        try:
            return await _settled(self._ctx, job, timeout_s)
        finally:  # not `except Cancelled`: out of a nursery that comes in a group
            if not job.done.is_set() and not self._ctx.leaving:
                with trio.CancelScope(shield=True):
                    await self._end(session, job)

    def held(self) -> None:
        self._held = True

    def released(self) -> None:
        """What was given up while it was held comes to its end now: beside the rest, for a terminal is read again only
        when this has returned.
        """
        self._held = False
        if self._given_up is not None:
            self._free = trio.Event()
            self._ctx.nursery.start_soon(self._end_given_up, *self._given_up)
            self._given_up = None

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self.session is not None:
            self.session.close()

    async def _end(self, session: S, job: Job) -> None:
        if self._held:  # and perhaps frozen
            self._given_up = session, job
            session.kill(job)
        else:
            await session.end(job)

    async def _end_given_up(self, session: S, job: Job) -> None:
        await session.end(job)
        self._free.set()


async def _settled(ctx: Context, job: Job, timeout_s: float | None) -> bool:
    in_time = True
    async with trio.open_nursery(strict_exception_groups=True) as nursery:

        async def limit(seconds: float) -> None:
            nonlocal in_time
            async with ctx.process_wait():
                await job.begun.wait()
            await ctx.sleep(seconds)
            in_time = job.settled.is_set()
            nursery.cancel_scope.cancel()

        if timeout_s is not None:
            nursery.start_soon(limit, timeout_s)
        async with ctx.process_wait():
            await job.settled.wait()
        nursery.cancel_scope.cancel()
    return in_time
