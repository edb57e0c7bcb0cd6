"""One program on trial: what it is given, how it is started, and the outcome of each check.

Every check has a life of the program for itself, so that none stands on what another left. Each life is a process tree
of its own, which is ended, whatever the program started.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import trio

from actors.children import ChildPolicy
from actors.conformance.partner import Failed, Partner, Skipped, ends
from actors.engines import jsonl
from actors.processes import Tree, hold_guardian

if TYPE_CHECKING:
    from actors.conformance.checks import Check

__all__ = ["Outcome", "Trial", "conform"]

BEGUN_S = 0.2
"""How long a run is given to begin when it says nothing."""


class Mute(Failed):
    """It said no `hello`, or one of another version of the protocol: nothing else can be told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`detail`: why it failed or was skipped."""

    check: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str
    seconds: float


@dataclass(slots=True, kw_only=True)
class Trial:
    """`input`: of a run that ends soon; `long_input`: of one that is still going on when something happens to it;
    `within_s`: how long anything may take. `hello`: what the program announced, once it was heard.
    """

    argv: Sequence[str]
    input: Any = None
    long_input: Any = None
    within_s: float = 10.0
    hello: jsonl.Hello | None = None
    _runs: int = field(default=0, init=False)

    def run_id(self) -> str:
        self._runs += 1
        return f"run_{self._runs}_{secrets.token_hex(4)}"

    @asynccontextmanager
    async def started(self, *, greeted: bool = True, **hello: Any) -> AsyncIterator[Partner]:
        """A life of the program. `greeted`: up to where it can work; `hello`: further members of the house's own.

        Raises SpawnFailed; Failed when it does not get as far.
        """
        tree = Tree(f"conform.{os.getpid()}.{secrets.token_hex(4)}", ChildPolicy())
        raised: Exception | None = None
        try:
            partner = Partner(await tree.spawn(self.argv))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partner.attend)
                try:
                    await self._greet(partner, hello, wait=greeted)
                    yield partner
                except Exception as error:  # noqa: BLE001 - raised again below, bare
                    raised = error
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await tree.end(0.0)
        if raised is not None:
            raise raised

    async def _greet(self, partner: Partner, hello: dict[str, Any], *, wait: bool) -> None:
        await partner.say("hello", protocol=jsonl.PROTOCOL, engine_id="conform", incarnation=1, **hello)
        if wait:
            self.hello = await self.greeting(partner)
            if not self.hello.ready:
                await partner.until(lambda m: isinstance(m, jsonl.Ready), "`ready`", self.within_s)

    async def greeting(self, partner: Partner) -> jsonl.Hello:
        try:
            hello = await partner.until(lambda m: isinstance(m, jsonl.Hello), "`hello`", self.within_s)
        except Failed as error:
            raise Mute(*error.args) from None
        assert isinstance(hello, jsonl.Hello)
        if hello.protocol != jsonl.PROTOCOL:
            raise Mute(f"It speaks version {hello.protocol} of the protocol; this is version {jsonl.PROTOCOL}.")
        return hello

    async def done(self, partner: Partner, input: Any = ..., **more: Any) -> str:
        """A run to its end; its id."""
        run = self.run_id()
        await partner.say("run", id=run, input=self.input if input is ... else input, attempt=1, **more)
        await self.end(partner, run)
        return run

    async def end(self, partner: Partner, run: str) -> None:
        """Until the run has ended; what it asks is answered with the first option."""
        answered: list[jsonl.Message] = []

        def wanted(message: jsonl.Message) -> bool:
            asks = isinstance(message, jsonl.Ask) and message.id == run and message not in answered
            return asks or ends(message, run)

        while True:
            message = await partner.until(wanted, f"`result` or `error` of the run {run}", self.within_s)
            if not isinstance(message, jsonl.Ask):
                return
            answered.append(message)
            option = message.options[0].id if message.options else None
            await partner.say("answer", id=run, ask=message.ask, option=option, answer="", comment=None)

    async def begun(self, partner: Partner) -> str:
        """A long run that is in hand; its id. Raises Skipped for one that is over already."""
        run = self.run_id()
        await partner.say("run", id=run, input=self.long_input, attempt=1)
        with trio.move_on_after(BEGUN_S):
            await partner.until(lambda m: m.id == run, "anything", self.within_s)
        self.still(partner, run)
        return run

    def still(self, partner: Partner, run: str) -> None:
        """Raises Skipped when the run has ended."""
        if any(ends(message, run) for message in partner.heard):
            raise Skipped("The run was over too soon: give an input that takes a while with --long-input.")


async def conform(trial: Trial, checks: Sequence[Check], tell: Callable[[Outcome], object]) -> None:
    """Run the checks one after the other. Of a program that says no good `hello` nothing else can be told, so the
    checks after that one are skipped. Raises SpawnFailed when there is no such program to run.
    """
    mute = False
    async with hold_guardian():
        for check in checks:
            began = trio.current_time()
            outcome: Literal["passed", "failed", "skipped"] = "passed"
            detail = ""
            try:
                if mute:
                    raise Skipped("It said no good `hello`; mend that first.")
                if check.declared is not None and not await _declares(trial, check.declared):
                    raise Skipped(f"It does not declare `{check.declared}`.")
                await check.does(trial)
            except Failed as error:
                outcome, detail = "failed", str(error)
                mute = isinstance(error, Mute) or check.name == "hello"
            except Skipped as error:
                outcome, detail = "skipped", str(error)
            tell(Outcome(check=check.name, outcome=outcome, detail=detail, seconds=trio.current_time() - began))


async def _declares(trial: Trial, member: str) -> bool:
    if trial.hello is None:
        async with trial.started(greeted=False) as partner:
            trial.hello = await trial.greeting(partner)
    announced = getattr(trial.hello, member)
    return not announced if member == "ready" else bool(announced)
