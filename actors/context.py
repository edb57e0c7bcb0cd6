"""What an engine is given: how it speaks (`emit`, `update`, `log`, `progress`: all of that is in `speaking.py`), waits
(`pause_point`, `sleep`, `ask_human`, `spawn_process`) and keeps tasks of its own (`nursery`).

Every wait here is a pause point: it returns to the author's code only while the engine is not held. Inside a wait the
durable barrier comes first and the gate last; otherwise a hold that is placed during the barrier would let code through
a closed gate.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from actors.children import ResourceLimits, Sandbox
from actors.engine import RequestExpired, RunInput
from actors.output import Output
from actors.processes import Process
from actors.processes.linux import Stat
from actors.question import Question
from actors.secrets import Masking, Reference
from actors.speaking import Speaking
from protocol.bodies import NewRun
from protocol.edge import as_json
from protocol.requests import Decided, Option, Request, RequestKind, RequestState
from protocol.wire import RunInfo

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.incarnation import Incarnation

__all__ = ["Context", "ProcessWait", "RunContext"]

T = TypeVar("T")


class Context(Speaking):
    """One incarnation's context. Waits raise `trio.Cancelled` when the engine is stopped or the run is cancelled."""

    # -- waiting -----------------------------------------------------------------------------------------------------
    async def pause_point(self) -> None:
        """Where the engine may be paused: waits while it is held."""
        self._progressed()
        await trio.lowlevel.checkpoint()
        await self._quietly(None)

    async def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds that are not paused; then a pause point."""

        async def wait() -> None:
            with self._incarnation.clock.scope(seconds):
                await trio.sleep_forever()

        await self._quietly(wait)

    async def wait(self, fn: Callable[[], Awaitable[T]]) -> T:
        """Await something that only waits and does nothing (a queue, a socket that is read): pausable meanwhile."""
        got: list[T] = []

        async def wait() -> None:
            got.append(await fn())

        await self._quietly(wait)
        return got[0]

    async def flush(self) -> None:
        """Wait until everything emitted so far is durable."""
        await self._quietly(self._cell.barrier)

    async def ask_human(
        self,
        title: str,
        *,
        kind: RequestKind = RequestKind.QUESTION,
        detail: str = "",
        options: Sequence[Option] = (),
        schema: Mapping[str, Any] | None = None,
        deadline_s: float | None = None,
        default: str | None = None,
        action: Any = None,
        valid_s: float | None = None,
        escalate_s: float | Sequence[float] | None = None,
    ) -> Decided:
        """Put a question to people and wait for the decision, over restarts of actor and daemon.

        `options`: an approval or permission without any can be approved and rejected. `action`: what exactly is asked
        for, as JSON; it is shown and journaled (so no secrets), and other arguments are another question, which voids
        an unused answer to the former. `deadline_s` runs on wall time, also while paused; `default` is the option it
        decides. `valid_s`: how long an approval holds (None: an hour; an answer to a question for ever); one that was
        not used by then is void, and the question is put again. `escalate_s`: after how long without a decision a
        `request.escalated` is told, once for each (None: what the pool says).

        Raises RequestExpired when the deadline passes without a default, or when an approval's default is not a
        refusal, or when what was asked is withdrawn; ValidationFailed for a default that is no option, or an action
        that is too large. Cancelled: the question stays open for the next attempt, until the run ends.
        """
        question = Question.of(
            title, kind=kind, detail=detail, options=options, schema=schema, action=action, deadline_s=deadline_s,
            default=default, valid_s=valid_s, escalate_s=escalate_s,
        )  # fmt: skip
        while True:
            request = self._speaking().requests.ask(self._run_id, question)
            self._progressed()
            if await self._decided(request):
                assert request.decision is not None
                return request.decision

    def drop_questions(self) -> None:
        """Withdraw what this run has asked and no task of it waits for any more: it will not be asked again."""
        cell = self._speaking()
        with cell.turn():
            cell.requests.withdraw_unasked(self._run_id)

    async def _decided(self, request: Request) -> bool:
        """Wait for the decision and use it. False: it is no answer any more, and the question has to be put again."""
        cell = self._cell
        used: list[bool] = []

        async def wait() -> None:
            while request.state is RequestState.PENDING:
                await cell.lot.park()
            await cell.barrier()

        async def use() -> None:
            used.append(self._speaking().requests.use(request))
            await cell.barrier()

        with cell.requests.asking(request):
            await cell.barrier()
            await self._quietly(wait)
            if request.decision is None:
                raise RequestExpired(f"Nobody decided {request.title!r}: {request.reason or 'its deadline passed'}.")
            await self._quietly(use)  # only now: an answer given while held outlives a restart
            return used[-1] and cell.requests.holds(request)

    async def delegate(
        self,
        engine: str,
        input: Any,
        *,
        key: str,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> RunInfo:
        """Have another engine of this pool do a run, and wait for its end, whatever that is. In a run alone.

        It is given once for each `key` of this run: the next attempt, after a restart of actor or daemon, finds it
        again. It is asked for in the name of this engine, and of those who asked for what it has in hand. While this
        engine is paused the other one goes on.

        Raises EnginehouseError for what is refused (no such engine in this pool, its mailbox is full, its input is
        wrong). Cancelled: so is the other run, unless this one is to be tried again.
        """
        assert self._run is not None, "only a run delegates"
        cell, siblings = self._speaking(), self._cell.host.siblings(self._cell)
        self._progressed()
        run = NewRun(input=as_json(input), timeout_s=timeout_s, labels=dict(labels or {}))
        await cell.barrier()
        await self._quietly(None)
        with trio.CancelScope(shield=True):  # what was given can be taken back; it is durable in a moment, or refused
            uid, given = await siblings.give(engine, run, done_for=self._run.id, key=key)
        try:
            return await self.wait(partial(siblings.ended, uid, given))
        except trio.Cancelled:
            if not self._incarnation.comes_back:
                siblings.take_back(given)
            raise

    async def environment(
        self, env: Mapping[str, str | Reference] | None = None, *, api: bool = False
    ) -> dict[str, str]:
        """A program's whole environment: what the house passes on, over it `env`, in which a reference becomes the
        secret that it means; with `api`, over both, what gives access to this house (nothing where there is none).

        Every secret among them is hidden from now on. Raises CannotStart for a secret that cannot be had.
        """
        host, spec = self._cell.host, self._cell.spec
        made = host.children.environment()
        granted: dict[str, str] = {}
        for name, value in (env or {}).items():
            if isinstance(value, str):
                made[name] = value
            else:
                granted[name] = await self._read(value)
        if api and host.engine_env is not None:
            granted |= host.engine_env(spec, self._cell.incarnation)
        for name, value in granted.items():
            if not name.endswith("_URL") and not self.hide(value):
                self.log(f"The secret in {name} is too short to be hidden in what is said.", level="warning")
        return made | granted

    async def secret(self, reference: Reference) -> str:
        """A secret for the engine itself, hidden from now on. Raises CannotStart when it cannot be had."""
        value = await self._read(reference)
        if not self.hide(value):
            self.log("A secret is too short to be hidden in what is said.", level="warning")
        return value

    async def _read(self, reference: Reference) -> str:
        return await self.wait(partial(self.blocking, partial(self._cell.host.children.secrets.read, reference)))

    async def blocking(self, fn: Callable[[], T]) -> T:
        """Do what keeps a disk busy: in a thread, where the house has some. No pause point, since something is done.

        Cancelled: it is finished all the same, and then the cancellation goes on.
        """
        if not self._cell.host.threads:
            return fn()
        return await trio.to_thread.run_sync(fn, limiter=self._cell.host.disk)

    async def folder(self) -> Path:
        """A directory of this engine's own on the house's disk, for what is too large for slices: made when it is asked
        for first, and gone with the engine when that is disposed. What is synced there survives any crash. The journal
        knows nothing of it, so write here first and emit after: what was said then stays true. (`home` is another one,
        and goes with the process tree.)
        """
        path = self._cell.host.folder(self._cell.spec.uid)
        await self.blocking(partial(path.mkdir, mode=0o700, parents=True, exist_ok=True))
        return path

    def masked(self, value: T) -> T:
        """A JSON value with `***` in the place of all that is hidden: for what an engine keeps or sends by itself."""
        found: T = self._cell.secrets.masked(value)
        return found

    def hide(self, value: str) -> bool:
        """Have `***` in its place in all that this engine says from now on: output, events, slices, results, errors.

        False: it is too short for that, or a line of it is.
        """
        return self._cell.secrets.add(value)

    def masking(self) -> Masking:
        """Takes what is hidden out of a stream of bytes, for an engine that keeps some of it."""
        return self._cell.secrets.stream()

    async def spawn_process(
        self,
        argv: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        merge_stderr: bool = False,
        pty: tuple[int, int] | None = None,
        workspace: str | None = None,
        limits: ResourceLimits | None = None,
        sandbox: Sandbox | None = None,
        descriptors: Sequence[int] = (),
    ) -> Process:
        """Start a program in this incarnation's process tree, which ends, provably, with the incarnation.

        What was emitted before is durable first. A run's program finds its trace in TRACEPARENT. `env`: its whole
        environment (`environment` makes one), None for what the house passes on; the rest as `Tree.spawn` says. Raises
        SpawnFailed. Cancelled: no process is left.
        """
        await self._cell.barrier()
        await self._quietly(None)
        host, trace, run_id = self._cell.host, self.trace, self._run_id
        if trace is not None:
            env = {**trace.environment(), **(host.children.environment() if env is None else env)}
        process = await self._incarnation.tree.spawn(
            argv, cwd=cwd, env=env, merge_stderr=merge_stderr, pty=pty, workspace=workspace, limits=limits,
            sandbox=sandbox, descriptors=descriptors,
        )  # fmt: skip
        if run_id is not None:
            host.observer.spawned(run_id, os.path.basename(argv[0]), process.pid)  # noqa: PTH119 - a word
        return process

    @property
    def starved(self) -> bool:
        """Whether the kernel has ended a process of this incarnation because all used more memory than they may."""
        return self._incarnation.tree.starved

    def alive(self) -> frozenset[tuple[int, int]]:
        """Who is in this incarnation's process tree now."""
        return self._incarnation.tree.alive()

    async def end_newer(
        self,
        before: frozenset[tuple[int, int]],
        parent: int,
        *,
        meant: Callable[[Stat], bool] = lambda _: True,
        term_s: float = 0.5,
    ) -> None:
        """End what came into the process tree since `alive` was `before`: what the process `parent`, which stays, has
        started, and orphans, as far as `meant` says so; and spare what others that were there have started, and what
        `spawn_process` has. What cannot be ended is logged.
        """
        for leak in await self._incarnation.tree.end_newer(before, parent, term_s, meant=meant):
            self.log(f"A process of a run that was ended is still there: {leak.name} ({leak.why}).", pid=leak.pid)

    async def adopt(self) -> bool:
        """Take over the process tree that the last house left (`Engine.lasts`); whether there was one. Once, before
        anything is started.
        """
        return await self._incarnation.tree.adopt()

    async def discard(self) -> None:
        """End the process tree, also one that was just taken over, and begin another. Nobody waits for its programs."""
        await self._incarnation.begin_anew()

    def bind(self, pid: int, limits: ResourceLimits) -> None:
        """Let limits hold for a process that a program of ours has started. Raises OSError."""
        self._incarnation.tree.bind(pid, limits)

    def process_wait(self) -> ProcessWait:
        """`async with ctx.process_wait(): await process.stdout.receive_some()`: a task that waits for a process counts
        as quiet while the process tree is frozen, and goes on only when the engine is released.
        """
        return ProcessWait(self._cell, self._incarnation)


class RunContext(Context):
    """The context of the run in hand: what is emitted carries its id, and it can write output."""

    def __init__(self, cell: Cell, incarnation: Incarnation, run: RunInput, output: Output) -> None:
        super().__init__(cell, incarnation, run)
        self._output = output

    async def output(self, text: str | bytes) -> None:
        """Append to the run's output: in its file before anyone sees the frame."""
        self._progressed()
        await self._output.write(text.encode() if isinstance(text, str) else text)

    @property
    def output_bytes(self) -> int:
        return self._output.offset


class ProcessWait:
    """See `Context.process_wait`."""

    def __init__(self, cell: Cell, incarnation: Incarnation) -> None:
        self._cell, self._incarnation = cell, incarnation

    async def __aenter__(self) -> None:
        self._incarnation.at_process.add(trio.lowlevel.current_task())
        self._cell.lot.unpark_all()

    async def __aexit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exc_type is None and self._incarnation.frozen:
                await self._incarnation.gate()  # noqa: ASYNC102 - a pause point, to be cancelled like any other
        finally:
            self._incarnation.at_process.discard(trio.lowlevel.current_task())
