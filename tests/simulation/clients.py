"""Clients that send everything that can be sent, at random, with keys that repeat, and that vanish while they wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from actors.envelope import Undelivered
from protocol.audit import Outcome
from protocol.bodies import NewEngine, NewPool, NewRun, PoolAction, PoolCommand, ReplyBody
from protocol.commands import (
    Answer,
    Approve,
    Cancel,
    Dispose,
    Pause,
    Reject,
    Reply,
    Restart,
    Resume,
    Signal,
    Skip,
    Start,
    Stop,
    Submit,
)
from protocol.errors import EnginehouseError
from protocol.runs import OnBusy, Priority
from protocol.specs import Backoff, OnInterrupt, OnStall, PauseMode, Policy, Strategy, Template
from protocol.specs import Restart as RestartSpec
from protocol.wire import Accepted
from supervisor.audit import Trail
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller
from tests.simulation.world import Ack, World

__all__ = ["IDS", "Client", "janitor", "new_engine", "prepare"]

IDS = {"a": "default", "b": "default", "c": "team", "d": "team", "e": "team"}
"""The engines of every schedule, and their pools."""

HOLDERS = ("x", "y")
POOL_ACTIONS: list[PoolAction] = ["pause", "resume", "stop", "start", "dispose", "drain"]
VANISH_S = (0.0005, 0.003, 0.02, 9.0)


def new_engine(world: World, id: str) -> NewEngine:
    """One of the many specs that an id may be spawned with."""
    rng = world.rng
    return NewEngine(
        kind=rng.choice(["probing", "probing", "plain"]),
        id=id,
        pool=IDS[id],
        restart=RestartSpec(
            policy=rng.choice([Policy.PERMANENT, Policy.TRANSIENT, Policy.TEMPORARY]),
            max_restarts=rng.choice([2, 3, 50]),
            window_s=rng.choice([0.3, 5.0]),
            backoff=Backoff(min_s=0.05, max_s=0.2),
            stable_s=1.0,
        ),
        mailbox_size=rng.choice([2, 5, 100]),
        idle_s=rng.choice([None, None, 0.05]),
        stall_s=rng.choice([None, 0.04, 0.2]),
        on_stall=rng.choice(list(OnStall)),
        grace_s=rng.choice([0.02, 0.3]),
        boot_s=0.2,
        on_interrupt=rng.choice([OnInterrupt.RETRY, OnInterrupt.FAIL, None]),
        max_attempts=rng.choice([2, 3]),
        start=rng.random() < 0.85,
    )


async def prepare(world: World, house: EmbeddedHouse) -> None:
    """The pool and the engines, as far as they are not there from an earlier life."""
    if "team" not in house.supervisor.pools:
        strategy = world.rng.choice(list(Strategy))
        await house.create_pool(
            NewPool(
                id="team", max_running=2, strategy=strategy, max_restarts=world.rng.choice([None, 4]), window_s=1.0,
                expire_s=world.rng.choice([None, None, 1.5]), template=Template(kind="plain"),
            )
        )  # fmt: skip
    for engine in IDS:
        if engine not in house.supervisor.ids:
            await house.spawn(new_engine(world, engine))


@dataclass(slots=True, eq=False)
class Client:
    """One client of one life. Its keys go on in the next life, so that a repeat may cross a kill."""

    world: World
    house: EmbeddedHouse
    name: str
    keys: list[tuple[str, str, Any]] = field(default_factory=list)
    trail: Trail | None = None

    async def run(self, requests: int) -> None:
        world, rng = self.world, self.world.rng
        for _ in range(requests):
            if not world.alive:
                return
            action = rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            with trio.move_on_after(rng.choice(VANISH_S)):
                await self.attempt(action)
            await trio.sleep(rng.random() * 0.02)

    async def attempt(self, action: Callable[[Client], Awaitable[None]]) -> None:
        """One request, with its trail. Refusals are answers; anything else that is raised is the house's fault."""
        world = self.world
        world.attempts += 1
        name = f"{self.name}-{world.attempts}"
        trail = Trail(self.name, request_id=name)
        try:
            try:
                await action(replace(self, trail=trail))
            except EnginehouseError as error:
                world.refusals[error.slug] += 1
                world.must(error.slug != "internal", repr(error))
                with suppress(EnginehouseError):
                    await self.house.audit(trail, Outcome.REFUSED, slug=error.slug)
                    if world.alive:
                        world.audited.append(name)
            else:
                if world.alive and trail.taken:
                    world.audited.append(name)
        finally:
            self.house.audit_nowait(trail, Outcome.ABANDONED)

    def caller(self, key: str | None = None) -> Caller:
        return Caller(principal=self.name, key=key, trail=self.trail)

    # -- what is sent ------------------------------------------------------------------------------------------------
    async def send(self, engine: str, body: Any, *, keyed: bool = True, wait_s: float | None = None) -> None:
        """One command under a new key, or without one."""
        key = f"{self.name}-{self.world.rng.getrandbits(40):x}" if keyed else None
        if key is not None:
            self.keys.append((key, engine, body))
        accepted, _ = await self.house.command(engine, body, self.caller(key), wait_s=wait_s)
        self.note(accepted, key)

    def note(self, accepted: Accepted, key: str | None) -> None:
        if not self.world.alive:
            return
        ack = Ack(self.name, key, accepted.command_id, accepted.type, accepted.seq, accepted.replayed)
        self.world.acks.append(ack)

    def engine(self) -> str:
        return self.world.rng.choice(list(IDS))

    async def repeat(self) -> None:
        """The very same request again: sometimes its first answer, sometimes the first attempt that arrives."""
        if self.keys:
            key, engine, body = self.world.rng.choice(self.keys[-12:])
            accepted, _ = await self.house.command(engine, body, self.caller(key))
            self.note(accepted, key)

    async def submit(self) -> None:
        rng = self.world.rng
        body = Submit(
            input=f"{self.name}-{rng.getrandbits(40):x}",
            priority=rng.choice([Priority.NORMAL, Priority.NORMAL, Priority.HIGH]),
            timeout_s=rng.choice([None, None, 0.05]),
            queue_ttl_s=rng.choice([None, None, 0.05]),
            on_busy=rng.choices(list(OnBusy), [8, 1, 1, 1])[0],
        )
        wait_s = rng.choice([None, None, None, 0.1])
        await self.send(self.engine(), body, keyed=rng.random() < 0.8, wait_s=wait_s)

    async def burst(self) -> None:
        """Several clients at once, in one batch of the store."""
        async with trio.open_nursery() as nursery:
            for _ in range(self.world.rng.randrange(2, 6)):
                nursery.start_soon(self.attempt, self.world.rng.choice([Client.submit, Client.signal]))

    async def signal(self) -> None:
        key = f"{self.name}-{self.world.rng.getrandbits(40):x}"
        await self.send(self.engine(), Signal(name="note", payload=key))

    async def pause(self) -> None:
        rng = self.world.rng
        mode = rng.choice([None, PauseMode.SOFT, PauseMode.INTERRUPT])
        body = Pause(mode=mode, holder=rng.choice(HOLDERS), reason="because")
        await self.send(self.engine(), body, wait_s=rng.choice([None, 0.05]))

    async def resume(self) -> None:
        await self.send(self.engine(), Resume(holder=self.world.rng.choice(["x", "y", "*"])))

    async def jolt(self) -> None:
        """A run, and a hold or the end, in one batch: it is taken, or it is not."""
        rng, engine = self.world.rng, self.engine()
        run = Submit(input=f"{self.name}-{rng.getrandbits(40):x}")
        hold = Pause(holder="x", mode=rng.choice([PauseMode.SOFT, PauseMode.INTERRUPT]))
        async with trio.open_nursery() as nursery:
            for body in (run, hold if rng.random() < 0.85 else Dispose(force=True)):
                nursery.start_soon(self.attempt, lambda client, body=body: client.send(engine, body))
        await self.send(engine, Resume(holder="x"))

    async def flip(self) -> None:
        """A release and a new hold that pass before any task of the engine has run."""
        engine = self.engine()
        mode = self.world.rng.choice([PauseMode.SOFT, PauseMode.INTERRUPT])
        flip = [Resume(holder="*"), Pause(holder="x", mode=mode), Resume(holder="*"), Pause(holder="y")]
        count = self.world.rng.randrange(2, 5)
        async with trio.open_nursery() as nursery:
            for body in flip[:count]:
                nursery.start_soon(self.attempt, lambda client, body=body: client.send(engine, body))

    async def cancel(self) -> None:
        engine = self.engine()
        view = self.house.supervisor.view(engine)
        run_id = self.world.rng.choice([None, *list(view.runs)])
        await self.send(engine, Cancel(run_id=run_id, reason="enough"))

    async def reply(self) -> None:
        """Decide what waits somewhere, in one of the many ways."""
        rng = self.world.rng
        pending = (await self.house.requests()).items
        if not pending:
            return
        request = rng.choice(pending)
        way = rng.randrange(6)
        if way == 0:
            caller = self.caller()
            await self.house.reply(request.id, ReplyBody(option="approve"), caller)
            return
        named = rng.choice([None, request.id])
        bodies = [
            Approve(request_id=named), Reject(request_id=named), Skip(request_id=named),
            Answer(request_id=request.id, answer="yes"), Reply(request_id=request.id, option="approve"),
        ]  # fmt: skip
        await self.send(request.engine_id, bodies[way - 1])

    async def start(self) -> None:
        await self.send(self.engine(), Start(), wait_s=self.world.rng.choice([None, 0.05]))

    async def stop(self) -> None:
        await self.send(self.engine(), Stop(grace_s=self.world.rng.choice([None, 0.0, 0.05])))

    async def restart(self) -> None:
        await self.send(self.engine(), Restart(grace_s=self.world.rng.choice([None, 0.0])))

    async def dispose(self) -> None:
        rng = self.world.rng
        body = Dispose(force=rng.random() < 0.7, grace_s=rng.choice([None, 0.0, 0.1]))
        if rng.random() < 0.5:
            await self.send(self.engine(), body)
        else:
            await self.house.dispose(self.engine(), self.caller(), force=body.force)

    async def respawn(self) -> None:
        """A disposed id comes back as another engine."""
        key = f"{self.name}-{self.world.rng.getrandbits(40):x}"
        _, accepted = await self.house.spawn(new_engine(self.world, self.engine()), self.caller(key))
        self.note(accepted, key)

    async def pool(self) -> None:
        rng = self.world.rng
        pool = rng.choice(["default", "team", "team"])
        asked = rng.choices(POOL_ACTIONS, [3, 6, 1, 4, 0.3, 0.5])[0]
        await self.house.pool_command(pool, PoolCommand(type=asked, force=rng.random() < 0.5, grace_s=0.05))

    async def by_key(self) -> None:
        """A session of the pool, by its key."""
        rng = self.world.rng
        info, _ = await self.house.get_or_spawn("team", rng.choice(["one", "two"]), self.caller())
        if rng.random() < 0.5:
            await self.house.submit(info.id, NewRun(input=f"{self.name}-{rng.getrandbits(40):x}"))
        elif rng.random() < 0.4:
            await self.house.dispose(info.id, self.caller(), force=True)

    async def letters(self) -> None:
        """Dead letters are redelivered or discarded."""
        letters = (await self.house.dead_letters()).items
        if letters:
            letter = self.world.rng.choice(letters)
            if self.world.rng.random() < 0.7:
                self.note(await self.house.redeliver(letter.id, self.caller()), None)
            else:
                await self.house.discard(letter.id)

    async def ask(self) -> None:
        """A volatile question to an actor; its refusals and timeouts are answers too."""
        with suppress(TimeoutError, Undelivered):
            await self.house.ref(self.engine()).ask("note", "volatile", timeout_s=0.05)


async def janitor(world: World, house: EmbeddedHouse) -> None:
    """Answers everything, so that no run waits for ever. Until cancelled."""
    client = Client(world, house, "janitor")

    async def answer(client: Client) -> None:
        for request in (await house.requests()).items:
            await house.reply(request.id, ReplyBody(option="approve"), client.caller())

    while True:
        await client.attempt(answer)
        await trio.sleep(0.25)


ACTIONS: dict[Callable[[Client], Awaitable[None]], float] = {
    Client.submit: 14, Client.burst: 1.5, Client.signal: 4, Client.repeat: 5, Client.pause: 4, Client.resume: 7,
    Client.flip: 2, Client.jolt: 2, Client.cancel: 2, Client.reply: 7, Client.start: 6, Client.stop: 1.5,
    Client.restart: 1.5, Client.dispose: 1.2, Client.respawn: 2, Client.pool: 1.5, Client.by_key: 1,
    Client.letters: 1, Client.ask: 1,
}  # fmt: skip
"""What clients do, and how often."""
