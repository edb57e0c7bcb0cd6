"""What an engine is given: how it speaks (`emit`, `update`, `log`, `progress`), waits (`pause_point`, `sleep`,
`ask_human`, `spawn_process`) and keeps tasks of its own (`nursery`).

Speaking never waits for the disk, but for an engine that is far ahead of it. Every wait here is a pause point: it
returns to the author's code only while the engine is not held. Inside a wait the durable barrier comes first and the
gate last; otherwise a hold that is placed during the barrier would let code through a closed gate.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from actors.children import ResourceLimits, Sandbox
from actors.engine import Finished, RequestExpired, RunInput
from actors.output import Output
from actors.processes import Process
from actors.question import Question
from actors.secrets import Masking, Reference
from protocol.edge import as_json
from protocol.events import is_reserved
from protocol.requests import Decided, Option, Request, RequestKind, RequestState
from protocol.trace import Trace

if TYPE_CHECKING:
    from actors.cell import Cell
    from actors.incarnation import Incarnation

__all__ = ["Context", "ProcessWait", "RunContext"]

T = TypeVar("T")
EMIT_ROWS, EMIT_BYTES = 256, 1 << 20
"""How far one engine may be ahead of the disk before `emit` waits; `emit_nowait` raises at twice that."""
CHECKPOINT_EVERY = 64


class Context:
    """One incarnation's context. Waits raise `trio.Cancelled` when the engine is stopped or the run is cancelled."""

    def __init__(self, cell: Cell, incarnation: Incarnation, run: RunInput | None = None) -> None:
        self._cell = cell
        self._incarnation = incarnation
        self._run = run
        self._emitted = 0

    # -- who and when ------------------------------------------------------------------------------------------------
    @property
    def engine_id(self) -> str:
        return self._cell.spec.id

    @property
    def labels(self) -> Mapping[str, str]:
        return self._cell.spec.labels

    @property
    def incarnation(self) -> int:
        return self._cell.incarnation

    @property
    def trace(self) -> Trace | None:
        """The trace that this run belongs to, for what it starts or calls; None outside of runs, or without one."""
        return self._cell.host.observer.trace(self._run.id) if self._run is not None else None

    @property
    def stopping(self) -> bool:
        """The engine was asked to end; what is in hand should come to its end soon."""
        return self._cell.ending

    def time(self) -> float:
        """Monotonic seconds that stand still while the engine is paused."""
        return self._incarnation.clock.time()

    @property
    def nursery(self) -> trio.Nursery:
        """Tasks of the author's own: cancelled when the incarnation ends; an exception in one crashes the actor."""
        return self._incarnation.own_nursery()

    # -- speaking ----------------------------------------------------------------------------------------------------
    async def emit(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """Journal an event of the author's own type (`<kind>.<name>`).

        Ordered on return, visible when durable. Waits only while this engine is `EMIT_ROWS` rows or `EMIT_BYTES` bytes
        ahead of the disk. Raises ValueError for a reserved family or for data that is not JSON. Cancelled while
        waiting: the event is journaled all the same.
        """
        self._emit(type, data)
        self._emitted += 1
        cell = self._cell
        while cell.rows_ahead >= EMIT_ROWS or cell.bytes_ahead >= EMIT_BYTES:
            cell.host.check_durable()
            await cell.lot.park()
        if self._emitted % CHECKPOINT_EVERY == 0:
            await trio.lowlevel.checkpoint()

    def emit_nowait(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """The same without waiting; raises trio.WouldBlock when the engine is twice as far ahead as it may be."""
        cell = self._cell
        if cell.rows_ahead >= 2 * EMIT_ROWS or cell.bytes_ahead >= 2 * EMIT_BYTES:
            raise trio.WouldBlock
        self._emit(type, data)

    def _emit(self, type: str, data: Mapping[str, Any] | None) -> None:
        if is_reserved(type) or "." not in type:
            raise ValueError(f"{type!r} is not a type of your own: use '<kind>.<name>', with no reserved first word")
        cell = self._speaking()
        self._progressed()
        cell.note(type, dict(data or {}), run_id=self._run_id)

    def update(self, slice: str, value: Any) -> None:
        """Set a slice of the public state. Never waits; it travels as a JSON Patch, quick repeats as one."""
        cell = self._speaking()
        self._progressed()
        cell.update(slice, as_json(value), self._run_id)

    def slice(self, name: str) -> Any:
        """The slice's present value, also what an earlier incarnation left; None when it was never set."""
        return self._cell.slices.value(name)

    def log(self, text: str, *, level: str = "info", **fields: Any) -> None:
        """A line for people (`log.line`). Past its budget lines are counted and become one `log.dropped`."""
        self._speaking().log(text, level, as_json(fields), self._run_id)

    def progress(self, data: Mapping[str, Any] | None = None) -> None:
        """Show that the run advances (transient), and reset the stall watch."""
        cell = self._speaking()
        self._progressed()
        cell.transient("run.progress", dict(data or {}), run_id=self._run_id)

    def usage(self, **amounts: float) -> None:
        """Add to what this run has used (`tokens`, `cost_usd`, ...)."""
        self._incarnation.add_usage(amounts)

    def finish(self) -> None:
        """End this incarnation, well: raises Finished."""
        raise Finished

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
                granted[name] = await self._secret(value)
        if api and host.engine_env is not None:
            granted |= host.engine_env(spec, self._cell.incarnation)
        for name, value in granted.items():
            if not name.endswith("_URL") and not self.hide(value):
                self.log(f"The secret in {name} is too short to be hidden in what is said.", level="warning")
        return made | granted

    async def _secret(self, reference: Reference) -> str:
        read = partial(self._cell.host.children.secrets.read, reference)
        if not self._cell.host.threads:
            return read()
        return await self.wait(lambda: trio.to_thread.run_sync(read, limiter=self._cell.host.disk))

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

    async def end_newer(self, before: frozenset[tuple[int, int]], parent: Process, *, term_s: float = 0.5) -> None:
        """End what came into the process tree since `alive` was `before`: what `parent`, which stays, has started, and
        orphans; and spare what others that were there have started. What cannot be ended is logged.
        """
        for leak in await self._incarnation.tree.end_newer(before, parent.pid, term_s):
            self.log(f"A process of a run that was ended is still there: {leak.name} ({leak.why}).", pid=leak.pid)

    def process_wait(self) -> ProcessWait:
        """`async with ctx.process_wait(): await process.stdout.receive_some()`: a task that waits for a process counts
        as quiet while the process tree is frozen, and goes on only when the engine is released.
        """
        return ProcessWait(self._cell, self._incarnation)

    # -- within ------------------------------------------------------------------------------------------------------
    def _speaking(self) -> Cell:
        """The cell, for as long as this incarnation is its actor and the house keeps its journal. Raises
        trio.ClosedResourceError for a task that was named as a leak and goes on all the same: its engine is disposed.
        """
        self._cell.host.check_durable()
        if self._cell.actor is not self._incarnation:
            raise trio.ClosedResourceError(f"this incarnation of {self._cell.spec.id} is over")
        return self._cell

    @property
    def _run_id(self) -> str | None:
        return self._run.id if self._run else None

    def _progressed(self) -> None:
        if self._run is not None:
            self._incarnation.progressed()

    async def _quietly(self, wait: Callable[[], Awaitable[None]] | None) -> None:
        await self._incarnation.quietly(wait)


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
