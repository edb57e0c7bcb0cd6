"""What an engine is given: how it speaks (`emit`, `update`, `log`, `progress`), waits (`pause_point`, `sleep`,
`ask_human`, `spawn_process`) and keeps tasks of its own (`nursery`).

Speaking never waits for the disk, but for an engine that is far ahead of it. Every wait here is a pause point: it
returns to the author's code only while the engine is not held. Inside a wait the durable barrier comes first and the
gate last; otherwise a hold that is placed during the barrier would let code through a closed gate.
"""

from __future__ import annotations

import os
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from actors.children import ChildPolicy, ResourceLimits, Sandbox
from actors.engine import Finished, RequestExpired, RunInput
from actors.output import Output
from actors.processes import Process
from actors.question import Question
from actors.secrets import Masking, Reference
from protocol.bodies import NewRun
from protocol.commands import Pause
from protocol.edge import as_json
from protocol.events import is_reserved
from protocol.requests import Decided, Option, Request, RequestKind, RequestState
from protocol.specs import OnInterrupt, PauseMode
from protocol.states import State
from protocol.trace import Trace
from protocol.wire import RunInfo

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
        self._delta: tuple[tuple[str, int], Masking, IncrementalDecoder] | None = None

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
    def children(self) -> ChildPolicy:
        """What this house lets the programs of its engines do, and where."""
        return self._cell.host.children

    @property
    def stopping(self) -> bool:
        """The engine was asked to end; what is in hand should come to its end soon."""
        return self._cell.ending or self._cell.host.gone

    @property
    def leaving(self) -> bool:
        """The incarnation ends, and its process tree is left to the next house (`Engine.lasts`)."""
        return self._incarnation.leaves_processes

    @property
    def on_interrupt(self) -> OnInterrupt:
        """What becomes of a run that was in hand when the last incarnation ended."""
        return self._cell.spec.on_interrupt

    @property
    def home(self) -> Path:
        """A directory of this engine's own, for us alone, which is there as long as its process tree. Made when it is
        asked for. Only for kinds whose trees may last. Raises OSError.
        """
        self._cell.home.make()
        return self._cell.home.path

    @property
    def held(self) -> PauseMode | None:
        """How the engine is held at this moment, a freeze before anything else; None when it is not, or is to end."""
        cell = self._cell
        if cell.state not in (State.PAUSING, State.PAUSED) or not cell.holds:
            return None
        modes = [hold.mode for hold in cell.holds.values()]
        return PauseMode.FREEZE if PauseMode.FREEZE in modes else modes[0]

    async def until_held(self, *modes: PauseMode | None) -> PauseMode | None:
        """Wait until `held` is one of these, and tell which. No pause point: it is for a task of the author's own that
        sees to a pause.
        """
        while (mode := self.held) not in modes:
            await self._cell.lot.park()
        return mode

    def time(self) -> float:
        """Monotonic seconds that stand still while the engine is paused."""
        return self._incarnation.clock.time()

    def stamp(self) -> str:
        """The time of day, as RFC 3339 in UTC with milliseconds."""
        return self._cell.host.stamp()

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

    def delta(self, text: str, *, type: str = "text", message: int = 0) -> None:
        """Show a piece of what is just being said (transient `message.delta`), and reset the stall watch.

        `type`: `text` or `thought`; `message`: counts messages, so that readers see where one ends. What may be the
        beginning of a secret is held back until more of the same message comes; the whole message says it all.
        """
        cell = self._speaking()
        self._progressed()
        if self._delta is None or self._delta[0] != (type, message):
            self._delta = ((type, message), cell.secrets.stream(), getincrementaldecoder("utf-8")(errors="replace"))
        _, masking, decoder = self._delta
        if shown := decoder.decode(masking.feed(text.encode(errors="replace"))):
            cell.transient("message.delta", {"message": message, "type": type, "text": shown}, run_id=self._run_id)

    def usage(self, **amounts: float) -> None:
        """Add to what this run has used (`tokens`, `cost_usd`, ...)."""
        self._incarnation.add_usage(amounts)

    def hold(self, holder: str, reason: str) -> None:
        """Hold this engine, softly, in this holder's name, until somebody lifts that: it is paused from the next pause
        point on. For an engine that must not go on by itself, such as one that has spent what it may.
        """
        cell = self._speaking()
        with cell.turn():
            cell.hold(Pause(mode=PauseMode.SOFT, holder=holder, reason=reason), None)

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
        knows nothing of it, so write here first and emit after: what was said then stays true.
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

    def alive(self) -> frozenset[tuple[int, int]]:
        """Who is in this incarnation's process tree now."""
        return self._incarnation.tree.alive()

    async def end_newer(self, before: frozenset[tuple[int, int]], parent: Process, *, term_s: float = 0.5) -> None:
        """End what came into the process tree since `alive` was `before`: what `parent`, which stays, has started, and
        orphans; and spare what others that were there have started. What cannot be ended is logged.
        """
        for leak in await self._incarnation.tree.end_newer(before, parent.pid, term_s):
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
