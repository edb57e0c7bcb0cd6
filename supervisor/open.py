"""`open_supervisor`: a house inside somebody else's trio program.

From outside to inside: the store, one nursery, the caller's block. The block's own error is caught before it reaches
the nursery, the house closes, and then the very same object is raised outside of it: so a host sees its own exceptions
bare, a `Cancelled` belongs to the host's own scope, and a failure of the store is one bare `StoreUnavailable`. A task
of the house that raises is a bug in the house and is let out as it is.

Leaving the block takes up to `grace_s`, and longer only for an engine that shields itself from cancellation.
"""

from __future__ import annotations

import contextvars
import os
import random as random_module
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import trio

from actors.children import ChildPolicy
from actors.engine import Engine
from actors.host import EngineEnv
from actors.kinds import Kinds
from actors.observer import Observer
from actors.processes import hold_guardian
from protocol.errors import StoreUnavailable
from protocol.ids import Ids
from supervisor.embedded import EmbeddedHouse
from supervisor.entropy import Entropy
from supervisor.recovery import recover
from supervisor.store.contract import Store
from supervisor.store.memory import MemoryStore
from supervisor.supervisor import Supervisor

__all__ = ["open_supervisor"]

CLOSE_MARGIN_S = 5.0
"""What closing may take beyond the grace: killing process trees and flushing the journal."""

LAST_WORDS_S = 1.0
"""How long the block goes on when the store has failed, so that whoever was told of it can pass it on."""


@asynccontextmanager
async def open_supervisor(
    *,
    store: Store | None = None,
    kinds: Iterable[type[Engine]] = (),
    directory: str | os.PathLike[str] | None = None,
    name: str | None = None,
    grace_s: float = 10.0,
    margin_s: float = 2.0,
    wall: Callable[[], float] = time.time,
    random: random_module.Random | None = None,
    threads: bool = True,
    observer: Observer | None = None,
    children: ChildPolicy | None = None,
    engine_env: EngineEnv | None = None,
) -> AsyncIterator[EmbeddedHouse]:
    """Open a house, recover what its store holds, and close it when the block is left.

    Args:
        store: where the journal lives; a `MemoryStore` when None, and then nothing survives the block.
        kinds: engine classes beside the built-in ones and those of the entry points.
        directory: where run outputs and the files of engines are kept; a temporary one, removed afterwards, when None.
        name: names the house on this machine, in the environment of every process it starts; random when None.
        grace_s: how long engines have to end when the block is left.
        margin_s: how long past its deadline a disposed engine may take before it is named as a leak.
        threads: False keeps file work in the loop's own thread: for a virtual clock, which sees no thread at work.
        observer: hears of every row as it becomes durable; for metrics, logs and traces.
        children: what the programs of engines are started with and may reach; `ChildPolicy()` when None.
        engine_env: (spec, incarnation) -> variables that give an engine access to this house: asked for at each start
            of a program whose config says `api`, added to its environment, hidden in all that the engine says.
        wall, random: where time of day and randomness come from (tests inject theirs).

    Raises:
        StoreUnavailable: the store could not be opened, or failed while the house was open (the cause is chained).

    Cancelled: the house closes in its own bounded time, then the cancellation goes on.
    """
    source = random or Entropy()
    with ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="enginehouse-"))
        path = Path(directory)
        (path / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
        store = store or MemoryStore(randbits=source.getrandbits)
        house = Supervisor(
            store,
            Kinds(kinds),
            path,
            name=name or f"house-{source.getrandbits(48):012x}",
            ids=Ids(lambda: round(wall() * 1000), source.getrandbits),
            wall=wall,
            random=source.random,
            randbits=source.getrandbits,
            margin_s=margin_s,
            threads=threads,
            observer=observer,
            grace_s=grace_s,
            children=children or ChildPolicy(),
            engine_env=engine_env,
        )
        context = contextvars.copy_context()
        await store.open()
        raised: BaseException | None = None
        async with hold_guardian(), trio.open_nursery(strict_exception_groups=True) as nursery:
            house.begin(nursery, context)
            writer = trio.CancelScope(shield=True)
            body, closing = trio.CancelScope(), trio.CancelScope(shield=True)
            nursery.start_soon(_write, house, writer, body, closing)
            nursery.start_soon(house.deadlines.run)
            try:
                with body:
                    await recover(house)
                    yield EmbeddedHouse(house)
            except BaseException as error:  # noqa: BLE001, ASYNC103 - raised again, outside of the nursery
                raised = error
            finally:
                try:
                    with closing:
                        closing.deadline = trio.current_time() + house.grace_s + CLOSE_MARGIN_S
                        if house.failed is None:
                            await house.close(house.grace_s)  # noqa: ASYNC102 - in a shielded scope with a deadline
                finally:  # also when a bug keeps it from closing in order: engines shield themselves, and would live on
                    house.abandon()
                    try:
                        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_MARGIN_S):
                            await store.close()
                            await house.written.wait()
                    finally:
                        house.ended()
                        writer.cancel()
                        nursery.cancel_scope.cancel()
        if house.failed is not None and (raised is None or _is_ours(raised, house.failed)):
            raise house.failure()
        if raised is not None:
            raise raised


def _is_ours(raised: BaseException, failed: StoreUnavailable) -> bool:
    """Whether the block has nothing of its own to say: it was cancelled, or was told of the failure."""
    if isinstance(raised, BaseExceptionGroup):
        return all(_is_ours(inner, failed) for inner in raised.exceptions)
    return isinstance(raised, trio.Cancelled) or raised is failed or raised.__cause__ is failed


async def _write(house: Supervisor, scope: trio.CancelScope, body: trio.CancelScope, closing: trio.CancelScope) -> None:
    """The store's writer. Its failure ends the house: nobody may be told what is not durable."""
    try:
        with scope:
            await house.store.run(house.committed)
    except StoreUnavailable as error:
        house.fail(error)
        body.deadline = trio.current_time() + LAST_WORDS_S
        closing.cancel()
    finally:
        house.written.set()
