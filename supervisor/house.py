"""The one interface: what a program may ask of a house, whether it is embedded (`open_supervisor`) or far away
(`web.client.RemoteHouse`). A program moves from library to daemon by changing the line that opens it.

Every method raises the errors of `protocol.errors`, and nothing else that is the house's fault. `caller` says on whose
behalf it is asked, and under which idempotency key. Cancelling a call leaves no row or a whole row: what was accepted
stays accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, Self

from protocol.authority import Authority
from protocol.bodies import NewEngine, NewPool, NewRun, PatchPool, PoolCommand, ReplyBody
from protocol.events import Frame
from protocol.specs import PauseMode
from protocol.trace import Trace
from protocol.view import Why
from protocol.wire import (
    Accepted,
    CommandInfo,
    DeadLetterInfo,
    Disposed,
    DrainInfo,
    EngineInfo,
    HealthInfo,
    KindInfo,
    LogPage,
    Page,
    PoolInfo,
    PoolResult,
    ProcessTree,
    RequestInfo,
    RunInfo,
    SliceInfo,
    StateInfo,
)
from supervisor.audit import Trail

__all__ = ["NOBODY", "Caller", "EventPage", "Filter", "Following", "Frame", "House", "SharedHouse", "Subscription"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and under which key. `digest`: fingerprint of what is asked (None: made from the body); `standing`:
    what they may, asked when a command is journaled, and raising once that is over (None: the embedding program, which
    may do everything); `asked_by`: other principals who want it too (who runs a schedule by hand); `trail`: the audit
    row that this request owes; `trace`: the trace that what is asked belongs to (a remote house takes that of the span
    it is called in); `done_for`: the run that a run is delegated by, and does not outlive.
    """

    principal: str | None = None
    key: str | None = None
    digest: str | None = None
    asked_by: tuple[str, ...] = ()
    standing: Callable[[], Authority] | None = field(default=None, compare=False, repr=False)
    trail: Trail | None = field(default=None, compare=False, repr=False)
    trace: Trace | None = field(default=None, compare=False, repr=False)
    done_for: str | None = None


NOBODY: Final = Caller()
"""The embedding program itself, without a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a stream shows. `engine`, `run`: one engine (by id) or run; `types`: exact types or first words;
    the others as they are named. Empty means all.
    """

    engine: str | None = None
    run: str | None = None
    types: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """A page of the journal: envelopes; `next_after` and `latest` are event ids."""

    items: list[dict[str, Any]] = field(default_factory=list)
    next_after: str = "0"
    latest: str = "0"


class Subscription(Protocol):
    """A cursor on the events, in an `async with`. Entering it raises InvalidEventId, EventIdExpired or NotFound."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    async def receive(self) -> list[Frame]:
        """The next frames, at least one, in order. Raises trio.EndOfChannel after an `end` or `server.closing` frame.
        Cancelled: nothing is lost, the next call gives the same frames.
        """


class Following(Protocol):
    """The output of a run as it comes; to be closed when it is left early (`contextlib.aclosing`)."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def __anext__(self) -> Awaitable[bytes]: ...
    def aclose(self) -> Awaitable[None]: ...


class House(Protocol):
    """See the module. `engine` is an engine's id."""

    # engines
    async def spawn(self, new: NewEngine, caller: Caller = ...) -> tuple[EngineInfo, Accepted]:
        """EngineExists (also a disposed id may be spawned again), UnknownKind, ValidationFailed, QuotaExceeded,
        NotFound (pool).
        """

    async def put(self, id: str, new: NewEngine, caller: Caller = ...) -> tuple[EngineInfo, bool]:
        """Get or create by id: (engine, created). EngineExists when it is there with another spec."""

    async def get(self, engine: str) -> EngineInfo:
        """NotFound; EngineDisposed."""

    async def list(
        self, *, pool: str | None = None, kind: str | None = None, state: str | None = None,
        labels: Mapping[str, str] = ..., limit: int = 100, cursor: str | None = None,
    ) -> Page[EngineInfo]:  # fmt: skip
        """Those that are not disposed, in the order of their spawning; the other lists are newest first."""

    async def submit(
        self, engine: str, run: NewRun, caller: Caller = ..., *, wait_s: float | None = None
    ) -> tuple[RunInfo, Accepted]:
        """Queue a run; with `wait_s`, wait that long for its end. MailboxFull, InvalidState, RunConflict, Draining,
        ValidationFailed (input), UnsupportedCommand.
        """

    async def command(
        self, engine: str, body: Any, caller: Caller = ..., *, wait_s: float | None = None
    ) -> tuple[Accepted, CommandInfo | None]:
        """Send one of `protocol.commands`' bodies. With `wait_s`, wait that long for its *effect* (paused means
        quiesced, a submit's run has ended): the record when it was reached; None when the time passed first. Raises the
        problem when it was rejected at delivery, or the effect is not to be reached any more (InvalidState).
        """

    async def start(self, engine: str, caller: Caller = ...) -> Accepted: ...
    async def stop(
        self, engine: str, caller: Caller = ..., *, grace_s: float | None = None, reason: str = ""
    ) -> Accepted: ...
    async def restart(self, engine: str, caller: Caller = ..., *, reason: str = "") -> Accepted: ...
    async def pause(
        self, engine: str, caller: Caller = ..., *, mode: PauseMode | None = None, reason: str = "",
        holder: str | None = None, wait_s: float | None = None,
    ) -> Accepted: ...  # fmt: skip
    async def resume(
        self, engine: str, caller: Caller = ..., *, holder: str | None = None, wait_s: float | None = None
    ) -> Accepted: ...
    async def dispose(
        self, engine: str, caller: Caller = ..., *, force: bool = False, grace_s: float | None = None
    ) -> Disposed:
        """End everything the engine is and wait for the proof. EngineBusy. Repeated: the recorded outcome."""

    async def dispose_many(
        self, engines: Sequence[str], caller: Caller = ..., *, force: bool = False, grace_s: float | None = None
    ) -> Sequence[PoolResult]:
        """In parallel; one failure spares nobody."""

    # what an engine shows
    async def state(self, engine: str, *, at: int | None = None) -> StateInfo: ...
    async def slice(self, engine: str, name: str, *, at: int | None = None) -> SliceInfo:
        """UnknownSlice."""

    async def stats(self, engine: str) -> dict[str, Any]: ...
    async def history(self, engine: str, *, page: int = 1, page_size: int = 50) -> tuple[Sequence[RunInfo], int]:
        """Ended runs, newest first, and how many there are."""

    async def processes(self, engine: str) -> ProcessTree:
        """The live processes, what they use, and what holds them."""

    async def log(
        self, engine: str, stream: str = ..., *, after: str | None = None, limit: int = ..., wait_s: float = 0
    ) -> LogPage:
        """What its programs wrote to `stdout` or `stderr`, as far as files keep it: at most `limit` bytes, behind a
        place (None: the last of it; "0": all), waiting so long for something new. NotFound where it is not kept.
        """

    async def why(self, engine: str) -> dict[str, Why]:
        """The last `stop`, `pause`, `restart` and `cancel`, as far as there were any."""

    async def get_command(self, id: str, *, engine: str | None = None) -> CommandInfo: ...

    # runs
    async def runs(
        self, *, engine: str | None = None, pool: str | None = None, status: str | None = None, limit: int = 100,
        cursor: str | None = None,
    ) -> Page[RunInfo]: ...  # fmt: skip
    async def run(self, id: str) -> RunInfo: ...
    async def run_events(self, id: str) -> Sequence[dict[str, Any]]:
        """All durable events of the run."""

    async def cancel(self, run: str, caller: Caller = ..., *, reason: str = "") -> RunInfo:
        """A repeat when it was cancelled; InvalidState when it ended otherwise."""

    async def retry(self, run: str, caller: Caller = ...) -> tuple[RunInfo, Accepted]:
        """A new run with the same input and `retry_of`."""

    async def resume_run(self, run: str, caller: Caller = ...) -> RunInfo:
        """`POST /runs/{id}/continue`: InvalidState unless its requests are all decided or it was interrupted."""

    async def output(self, run: str, *, after: int = 0, limit: int = 1 << 20) -> tuple[bytes, int]:
        """(bytes from offset `after`, size of the output so far)."""

    def follow(self, run: str, *, after: int = 0) -> Following:
        """The output from `after` on, until the run ends. Use it in `async with contextlib.aclosing(...)`."""

    # people
    async def requests(
        self, *, state: Literal["pending", "decided"] | None = "pending", kind: str | None = None,
        pool: str | None = None, engine: str | None = None, limit: int = 100, cursor: str | None = None,
    ) -> Page[RequestInfo]: ...  # fmt: skip
    async def request(self, id: str) -> RequestInfo: ...
    async def reply(self, id: str, reply: ReplyBody, caller: Caller = ...) -> RequestInfo:
        """Returns once the decision is durable. AlreadyDecided, RequestClosed, ApprovalStale, ValidationFailed."""

    # pools
    async def pools(self) -> Sequence[PoolInfo]: ...
    async def pool(self, id: str) -> PoolInfo: ...
    async def create_pool(self, new: NewPool, caller: Caller = ...) -> PoolInfo:
        """EngineExists when the pool is there."""

    async def patch_pool(self, id: str, patch: PatchPool, members: frozenset[str], caller: Caller = ...) -> PoolInfo:
        """Change the named `members` only."""

    async def delete_pool(self, id: str, caller: Caller = ..., *, force: bool = False) -> None:
        """PoolBusy unless it is empty or `force` (then its engines are disposed)."""

    async def get_or_spawn(self, pool: str, key: str, caller: Caller = ...) -> tuple[EngineInfo, bool]:
        """(engine, created), from the pool's template."""

    async def pool_command(self, id: str, command: PoolCommand, caller: Caller = ...) -> Sequence[PoolResult]: ...

    # dead letters
    async def dead_letters(
        self, *, engine: str | None = None, pool: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[DeadLetterInfo]: ...
    async def redeliver(self, id: str, caller: Caller = ...) -> Accepted: ...
    async def discard(self, id: str, caller: Caller = ...) -> None: ...

    # events
    def events(self, filter: Filter = ..., *, after: str | None = None, snapshot: bool = False) -> Subscription:
        """Subscribe: from the present, or from after an event id ("0": the oldest kept)."""

    async def event_page(
        self, filter: Filter = ..., *, after: str | None = None, limit: int = 100, wait_s: float = 0
    ) -> EventPage: ...

    # the house
    async def kinds(self) -> Sequence[KindInfo]: ...
    async def kind(self, name: str) -> KindInfo:
        """NotFound."""

    async def health(self) -> HealthInfo: ...
    async def drain(self, caller: Caller = ..., *, cancel: bool = False) -> DrainInfo:
        """Take no new engines and runs (Draining); what is queued and active finishes, then each engine stops. Lasts,
        also over restarts, until `cancel`, which starts again what it stopped. Repeated: how far it is.
        """


class SharedHouse(House, Protocol):
    """A house that serves many callers."""

    def seen_by(self, authority: Authority) -> House:
        """The same house with the eyes of somebody: what lies in pools that they do not see is not there."""
