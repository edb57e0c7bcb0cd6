"""What is expected of a program, one check each, in the order in which they are run; `docs/engine-protocol.md` lists
them.

A check that brings something of its own (`declared`) is for programs whose `hello` announces it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from actors.conformance.partner import Failed, Partner, Skipped, ends
from actors.conformance.trial import Trial
from actors.engines import jsonl
from actors.engines.dialogue import CANCEL_S, PATIENCE

__all__ = ["CHECKS", "Check"]

QUIET_S = 0.3
"""How long nothing more may come."""

MARGIN_BYTES = 512
WORDS = 'żółw 🧨 \u202eabc\u202c \u2028 \u0000 \ufeff \\ " \r\n é'


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`expects`: what a program does, as a sentence; `advice`: what to do when it does not."""

    name: str
    expects: str
    advice: str
    does: Callable[[Trial], Awaitable[None]]
    declared: str | None = None


CHECKS: list[Check] = []

Does = Callable[[Trial], Awaitable[None]]


def check(name: str, expects: str, advice: str, *, declared: str | None = None) -> Callable[[Does], Does]:
    def add(does: Does) -> Does:
        CHECKS.append(Check(name=name, expects=expects, advice=advice, does=does, declared=declared))
        return does

    return add


# -- what every program does -------------------------------------------------------------------------------------------
@check(
    "hello",
    "The first line it writes is `hello` with protocol 1, without being asked for anything else.",
    "Write the line when you start, and flush it: a pipe is buffered in blocks by default.",
)
async def hello(trial: Trial) -> None:
    async with trial.started(greeted=False) as partner:
        greeting = await trial.greeting(partner)
        if partner.heard[0] is not greeting or partner.broken:
            raise Failed(partner.sentence("It said something else before `hello`"))


@check(
    "run",
    "A `run` ends with a `result` or an `error`, in time.",
    "Answer every run, also one whose input you cannot use: with an `error`.",
)
async def run(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner)


@check(
    "messages",
    "Every line that it writes is a message of the protocol.",
    "Print for people on standard error; the protocol has standard output for itself.",
)
async def messages(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner)
        await trio.sleep(QUIET_S)
        if partner.broken:
            raise Failed(f"{partner.broken[0]}.")


@check(
    "ids",
    "What it says about a run has the id of the run in hand.",
    "Take the `id` from each `run` message, and put it into every message about that run.",
)
async def ids(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner)
        since, number = len(partner.heard), trial.run_id()
        await partner.say("run", id=number, input=trial.input, attempt=1)
        missing: Failed | None = None
        try:
            await trial.end(partner, number)
        except Failed as error:
            missing = error
        for message in partner.heard[since:]:
            if message.id not in (None, number):
                raise Failed(f"In the run {number} it said something about {message.id}.")
        if missing is not None:
            raise missing


@check(
    "one-end",
    "A run has one end.",
    "Say `result` or `error` once for each run, and nothing about it afterwards.",
)
async def one_end(trial: Trial) -> None:
    async with trial.started() as partner:
        first = await trial.done(partner)
        await trial.done(partner)
        await trio.sleep(QUIET_S)
        count = sum(ends(message, first) for message in partner.heard)
        if count != 1:
            raise Failed(f"It said {count} ends of the run {first}.")


@check(
    "cancel",
    f"A run that is cancelled ends within {CANCEL_S:g} s, and the next one is done.",
    "Read standard input also while you work, and say `error` for the run that `cancel` names.",
)
async def cancel(trial: Trial) -> None:
    async with trial.started() as partner:
        long = await trial.begun(partner)
        await partner.say("cancel", id=long)
        await partner.end_of(long, CANCEL_S)
        await trial.done(partner)


@check(
    "late-cancel",
    "A `cancel` of a run that is over, or that it never had, changes nothing.",
    "Compare the `id` of a `cancel` with that of the run in hand: the two may have crossed.",
)
async def late_cancel(trial: Trial) -> None:
    async with trial.started() as partner:
        over = await trial.done(partner)
        await partner.say("cancel", id=over)
        await partner.say("cancel", id="run_nobodys")
        await trial.done(partner)
        if sum(ends(message, over) for message in partner.heard) != 1:
            raise Failed(f"It said another end of the run {over}, which was over.")


@check(
    "unknown",
    "Members and messages that it does not know are ignored.",
    "Look only at what you know: a newer house may say more.",
)
async def unknown(trial: Trial) -> None:
    async with trial.started(new={"member": [1]}) as partner:
        await partner.say("something-new", number=1, text="x")
        await partner.say("constructor")
        await trial.done(partner, new_member={"deep": [None, True]})


@check(
    "signal",
    "A `signal` does no harm, between runs and during one.",
    "Ignore the signals that mean nothing to you.",
)
async def signals(trial: Trial) -> None:
    async with trial.started() as partner:
        await partner.say("signal", name="conform", payload={"any": ["thing", 1, None]})
        number = trial.run_id()
        await partner.say("run", id=number, input=trial.input, attempt=1)
        await partner.say("signal", name="conform", payload=None)
        await trial.end(partner, number)
        await trial.done(partner)


@check(
    "unicode",
    "Any text may come: every character, also escaped, also those that look like line ends.",
    "Read bytes, cut at LF alone, decode UTF-8, then parse JSON; set no encoding of the locale's.",
)
async def unicode(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner, WORDS)
        await trial.done(partner, {WORDS: [WORDS]})
        await trial.done(partner)
        if partner.broken:
            raise Failed(f"{partner.broken[0]}.")


@check(
    "large",
    f"A message of nearly {jsonl.LINE_BYTES} bytes is read.",
    "Read lines of any length: no buffer of a fixed size, and more than one read.",
)
async def large(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner, "x" * (jsonl.LINE_BYTES - MARGIN_BYTES))
        await trial.done(partner)


@check(
    "pieces",
    "A message may come in pieces.",
    "A read is no message: keep what you have until the LF comes.",
)
async def pieces(trial: Trial) -> None:
    async with trial.started() as partner:
        number = trial.run_id()
        line = jsonl.say("run", id=number, input=trial.input, attempt=1)
        for part in (line[:1], line[1:9], line[9:-1], line[-1:]):
            await partner.write(part)
            await trio.sleep(0.03)
        await trial.end(partner, number)


@check(
    "together",
    "Several messages may come at once.",
    "A read is no message: go on with what is behind the LF.",
)
async def together(trial: Trial) -> None:
    async with trial.started() as partner:
        number = trial.run_id()
        run = jsonl.say("run", id=number, input=trial.input, attempt=1)
        await partner.write(jsonl.say("signal", name="conform", payload=1) + jsonl.say("something-new") + run)
        await trial.end(partner, number)


@check(
    "stop",
    "After `stop` it ends.",
    "Leave your main loop when `stop` comes, and end whatever keeps the process alive.",
)
async def stop(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.done(partner)
        await partner.say("stop")
        await partner.gone(trial.within_s, "`stop`")


@check(
    "stop-in-run",
    "After `stop` it ends, also in the middle of a run.",
    "Read standard input also while you work; end the run or leave it, and end.",
)
async def stop_in_run(trial: Trial) -> None:
    async with trial.started() as partner:
        await trial.begun(partner)
        await partner.say("stop")
        await partner.gone(trial.within_s, "`stop`")


@check(
    "eof",
    "When its standard input ends it ends.",
    "The end of standard input means that the house is gone: treat it as `stop`.",
)
async def eof(trial: Trial) -> None:
    async with trial.started() as partner:
        assert partner.process.stdin is not None
        await partner.process.stdin.aclose()
        await partner.gone(trial.within_s, "the end of its standard input")


# -- what it announces -------------------------------------------------------------------------------------------------
@check(
    "ready",
    "It says `ready` when it can work.",
    "Say `ready` once, when you have loaded what you need; or leave `ready` out of your `hello`.",
    declared="ready",
)
async def ready(trial: Trial) -> None:
    async with trial.started(greeted=False) as partner:
        await trial.greeting(partner)
        await partner.until(lambda m: isinstance(m, jsonl.Ready), "`ready`", trial.within_s)


@check(
    "heartbeat",
    "It gives the signs of life that it promised.",
    "Say `heartbeat` from where a hang would be noticed, a little more often than `heartbeat_s`.",
    declared="heartbeat_s",
)
async def heartbeat(trial: Trial) -> None:
    async with trial.started() as partner:
        assert trial.hello is not None
        every_s = trial.hello.heartbeat_s or 0
        if PATIENCE * every_s > trial.within_s:
            raise Skipped(f"It promises one every {every_s:g} s: give --timeout {PATIENCE * every_s:g}.")
        for _ in range(2):
            await partner.more("anything", PATIENCE * every_s)


@check(
    "pause",
    "Told `pause` between runs it says `paused` with the same number, and works again after `resume`.",
    "Answer every `pause`, also when you have nothing to do.",
    declared="pause",
)
async def pause(trial: Trial) -> None:
    async with trial.started() as partner:
        await _paused(trial, partner, 1)
        await partner.say("resume", number=1)
        await trial.done(partner)


@check(
    "pause-in-run",
    "Told `pause` during a run it stands still, says nothing more about it, and goes on after `resume`.",
    "Look for `pause` between two steps; say `paused` last, then wait for `resume`.",
    declared="pause",
)
async def pause_in_run(trial: Trial) -> None:
    async with trial.started() as partner:
        long = await trial.begun(partner)
        await _paused(trial, partner, 1)
        trial.still(partner, long)
        since = len(partner.heard)
        await trio.sleep(QUIET_S)
        if partner.of(long, since):
            raise Failed("It said `paused`, and went on with its run.")
        await partner.say("resume", number=1)
        await partner.more("anything about its run", trial.within_s, lambda m: m.id == long)


@check(
    "pause-again",
    "A `pause` that follows a `resume` is answered with its own number.",
    "Keep no pause in mind that is over: each `pause` has a `number`, and so has its answer.",
    declared="pause",
)
async def pause_again(trial: Trial) -> None:
    async with trial.started() as partner:
        pause, again = jsonl.say("pause", number=1), jsonl.say("pause", number=2)
        await partner.write(pause + jsonl.say("resume", number=1) + again)
        await partner.until(lambda m: _answers(m, 2), "`paused` with number 2", trial.within_s)
        await partner.say("resume", number=2)
        await trial.done(partner)


@check(
    "cancel-paused",
    f"A run that is cancelled while it stands still ends within {CANCEL_S:g} s.",
    "Wait for `cancel` and `stop` too while you wait for `resume`.",
    declared="pause",
)
async def cancel_paused(trial: Trial) -> None:
    async with trial.started() as partner:
        long = await trial.begun(partner)
        await _paused(trial, partner, 1)
        trial.still(partner, long)
        await partner.say("cancel", id=long)
        await partner.end_of(long, CANCEL_S)
        await partner.say("resume", number=1)
        await trial.done(partner)


@check(
    "resume",
    "Killed during a run and started again, it takes the run with `resumed` and its last snapshot, and goes on.",
    "Say `snapshot` when a step is done, with all that the next life needs; begin a run with `resumed` from there.",
    declared="resume",
)
async def resume(trial: Trial) -> None:
    async with trial.started() as partner:
        long = await trial.begun(partner)
        found = await partner.until(
            lambda m: isinstance(m, jsonl.Snapshot) or ends(m, long), "`snapshot`", trial.within_s
        )
        if not isinstance(found, jsonl.Snapshot):
            raise Skipped("The run was over before its first snapshot: give another --long-input.")
        partner.process.signal(signal.SIGKILL)
        await partner.gone(trial.within_s, "SIGKILL")
        value = [m.value for m in partner.heard if isinstance(m, jsonl.Snapshot)][-1]
    async with trial.started(snapshot=value) as partner:
        more = {"attempt": 2, "resumed": True, "snapshot": value}
        await partner.say("run", id=long, input=trial.long_input, **more)
        await partner.until(lambda m: m.id == long, "anything about its run", trial.within_s)


async def _paused(trial: Trial, partner: Partner, number: int) -> None:
    await partner.say("pause", number=number)
    await partner.until(lambda m: _answers(m, number), f"`paused` with number {number}", trial.within_s)


def _answers(message: jsonl.Message, number: int) -> bool:
    return isinstance(message, jsonl.Paused) and message.number == number
