"""What an author subclasses: a kind, a config, and few callbacks named in the order of time.

    class Greeter(Engine):
        kind = "greeter"

        async def on_run(self, ctx, run):
            await ctx.pause_point()
            return {"text": f"hello {run.input}"}

The loop is the runtime's. Callbacks run one at a time, but for `on_run`, which has its own task: while a run is in
hand, signals, replies and control go on. An exception out of a callback is a crash of the actor, which its restart
policy answers; `RunFailed` ends the run alone. Blocking code belongs in a thread or a process (`trio.to_thread`,
`ctx.spawn_process`): the runtime cannot pre-empt it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from actors.told import Told
from protocol.errors import NotFound
from protocol.specs import OnInterrupt, PauseMode

if TYPE_CHECKING:
    from pathlib import Path

    from actors.children import ChildPolicy
    from actors.context import Context, RunContext
    from protocol.wire import LogPage

__all__ = ["CannotStart", "Config", "Engine", "Finished", "RequestExpired", "RunFailed", "RunInput"]


class Config(BaseModel):
    """Base of every kind's config: strict, frozen, unknown members refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class RunFailed(Exception):
    """Ends the run `failed` and leaves the actor well. `slug`: a stable name; `result`: kept beside the error."""

    def __init__(self, slug: str, detail: str, result: Any = None) -> None:
        super().__init__(detail)
        self.slug, self.detail, self.result = slug, detail, result


class RequestExpired(RunFailed):
    """Nobody decided in time and no default could: uncaught, it ends the run `failed`."""

    def __init__(self, detail: str) -> None:
        super().__init__("request-expired", detail)


ANEW = "A retry gives the same input anew, and may repeat what was done."
"""What every error of a run that was interrupted ends with."""


class CannotStart(Told):
    """Raised in `on_start`: no retry can mend this (missing program, wrong directory). The engine is failed at once."""


class CannotAdopt(CannotStart):
    """Raised in `on_start` by an engine that cannot get at the process tree which the last house left: the same, and
    the tree stays, for the next start. Who stops or disposes of the engine ends it.
    """


class Finished(Exception):
    """Raised in any callback: the engine's work is over, and well. Its policy says what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInput:
    """One run as `on_run` sees it. `attempt` counts from 1; `resumed`: it goes on from the engine's last checkpoint."""

    id: str
    input: Any
    attempt: int = 1
    resumed: bool = False
    labels: dict[str, str] = field(default_factory=dict)


class Engine:
    """One incarnation of an engine: made at boot, dropped at exit; what must survive is emitted or put in slices."""

    kind: ClassVar[str]
    """The name under which it is spawned; `[a-z0-9_-]+`, also the first word of its own event types."""

    Config: ClassVar[type[BaseModel]] = Config
    Input: ClassVar[Any] = Any
    """Type of a run's input, validated before the run is accepted (anything pydantic can validate)."""

    description: ClassVar[str] = ""
    emits: ClassVar[tuple[str, ...]] = ()
    """Own event types, `<kind>.<name>`."""

    takes_runs: ClassVar[bool] = True
    pause_modes: ClassVar[tuple[PauseMode, ...]] = (PauseMode.SOFT, PauseMode.INTERRUPT)
    pause_mode: ClassVar[PauseMode] = PauseMode.SOFT
    """What pause means without a mode."""

    freezes: ClassVar[bool] = False
    """Whether its processes are stopped in every pause, once nothing is in hand: for programs that do not know it."""

    on_interrupt: ClassVar[OnInterrupt] = OnInterrupt.FAIL
    checkpoints: ClassVar[bool] = False
    """Whether a run can go on from a checkpoint (`on_interrupt: resume`)."""

    interrupted: ClassVar[str] = ""
    """What becomes of what a run was doing when it is interrupted for good, as a sentence for people."""

    refuses: ClassVar[bool] = False
    """Whether `refuse` has anything to say."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def accepts_runs(cls, config: Any) -> bool:
        """Whether an engine with this config takes runs."""
        return cls.takes_runs

    @classmethod
    def modes(cls, config: Any) -> tuple[PauseMode, ...]:
        """How an engine with this config can be paused."""
        return cls.pause_modes

    @classmethod
    def resumes(cls, config: Any) -> bool:
        """Whether a run of an engine with this config can go on from a checkpoint."""
        return cls.checkpoints

    @classmethod
    def lasts(cls, config: Any) -> bool:
        """Whether the process tree of an engine with this config outlives a house that keeps such trees, until the next
        takes it over (`Context.adopt`). What ends the engine, or a crash of its actor, ends the tree too.
        """
        return False

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse a config that is valid but cannot be meant here; raise ValueError with a sentence. Pure, no I/O."""

    @classmethod
    def refuse(cls, config: Any, children: ChildPolicy) -> None:
        """Refuse a config whose programs this house does not allow; raise ValidationFailed. Called before an engine is
        spawned, in a thread, for a kind that sets `refuses`: it may read the disk.
        """

    @classmethod
    def read_log(
        cls, config: Any, directory: Path, children: ChildPolicy, stream: str, after: str | None, limit: int
    ) -> LogPage:
        """What the programs of an engine with this config and this folder wrote to `stdout` or `stderr`, as far as it
        is in files. Called in a thread: it may read the disk. Raises NotFound where nothing is kept.
        """
        raise NotFound(f"Engines of the kind {cls.kind} keep no log of {stream}.")

    async def on_start(self, ctx: Context) -> None:
        """The incarnation begins. Bounded by the spec's `boot_s`. The engine is `running` when this returns."""

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        """Do one run; what is returned (JSON) is its result."""
        raise RunFailed("unsupported-command", f"The kind {self.kind} takes no runs.")

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> Any:
        """Handle a message; what is returned answers an `ask`."""

    async def on_pause(self, ctx: Context) -> None:
        """Nothing is in hand any more and the engine is about to be `paused`."""

    async def on_resume(self, ctx: Context) -> None:
        """The last hold was lifted; work goes on when this returns. Follows every `on_pause`."""

    async def on_stop(self, ctx: Context) -> None:
        """The engine is asked to end: bring the run in hand to an end within the grace; then it is cancelled."""
