"""What an engine is given: how it speaks (`emit`, `update`, `log`, `progress`), waits (`pause_point`, `sleep`,
`ask_human`, `spawn_process`) and keeps tasks of its own (`nursery`).

Speaking never waits for the disk, but for an engine that is far ahead of it. Every wait here is a pause point: it
returns to the author's code only while the engine is not held. Inside a wait the durable barrier comes first and the
gate last; otherwise a hold that is placed during the barrier would let code through a closed gate.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from actors.children import ResourceLimits, Sandbox
from actors.engine import Finished, RequestExpired, RunInput
from actors.output import Output
from actors.processes import Process
from actors.secrets import Masking, Reference
from protocol.edge import as_json
from protocol.errors import ValidationFailed
from protocol.events import encode, is_reserved
from protocol.requests import APPROVE, REJECT, Decided, Option, RequestKind, RequestState

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
    ) -> Decided:
        """Put a question to people and wait for the decision, over restarts of actor and daemon.

        `options`: an approval or permission without any can be approved and rejected. `action`: what exactly is asked
        for; it is part of the digest, so other arguments are another question. `deadline_s` runs on wall time, also
        while paused; `default` is the option it decides. Raises RequestExpired when it passes without one, or when an
        approval's default is not a refusal; ValidationFailed for a default that is no option. Cancelled: the question
        stays open for the next attempt, until the run ends.
        """
        if not options and kind is not RequestKind.QUESTION:
            options = (APPROVE, REJECT)
        if default is not None and all(o.id != default for o in options):
            raise ValidationFailed(f"The default {default!r} is none of the options.")
        cell = self._speaking()
        asked: dict[str, Any] = {
            "kind": kind.value,
            "title": title,
            "detail": detail,
            "options": [{"id": o.id, "kind": o.kind.value, "label": o.label} for o in options],
            "schema": as_json(schema),
        }
        digest = hashlib.sha256(encode([asked, as_json(action)])).hexdigest()
        request = cell.requests.ask(self._run_id, digest, asked, deadline_s=deadline_s, default=default)
        self._progressed()
        await cell.barrier()

        async def wait() -> None:
            while request.state is RequestState.PENDING:
                await cell.lot.park()
            await cell.barrier()

        async def use() -> None:
            cell.requests.use(request)
            await cell.barrier()

        await self._quietly(wait)
        if request.state is RequestState.ANSWERED:  # used only now: an answer given while held outlives a restart
            await self._quietly(use)
        if request.decision is None:
            raise RequestExpired(f"Nobody decided {title!r}: {request.reason or 'its deadline passed'}.")
        return request.decision

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

        What was emitted before is durable first. `env`: its whole environment (`environment` makes one), None for what
        the house passes on; the rest as `Tree.spawn` says. Raises SpawnFailed. Cancelled: no process is left.
        """
        await self._cell.barrier()
        await self._quietly(None)
        return await self._incarnation.tree.spawn(
            argv, cwd=cwd, env=env, merge_stderr=merge_stderr, pty=pty, workspace=workspace, limits=limits,
            sandbox=sandbox, descriptors=descriptors,
        )  # fmt: skip

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
