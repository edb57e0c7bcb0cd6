"""Bytes that are not quite HTTP: each request gets one answer or a clean end, and the house does not notice."""

from __future__ import annotations

import random
import re
from functools import partial

import pytest
import trio

from tests.attack.corpus import CORPUS, HOST, KEY, LIVE, Case
from tests.attack.mutators import mutated
from tests.attack.target import ANSWER_S, Target, in_parallel
from tests.attack.wire import Line, answer_in, check

SEED = 20_260_101
"""The first of the seeds; a failure prints its own, which then belongs into `FOUND`."""

FOUND: list[int] = []
"""Seeds that once found a fault."""

QUIET_S = 0.25
"""How long a request that may be incomplete is given before its sender hangs up. Too short only looks less closely."""


async def talk(target: Target, sent: bytes, *, until: int) -> tuple[list[int], bool, bytes]:
    """Send it and read `until` that many answers or the end: the statuses, whether it ended, and what was left over."""
    line = await Line.open(target.port)
    statuses: list[int] = []
    try:
        await line.send(sent.replace(KEY, target.admin.encode()))
        while len(statuses) < until:
            answer = await line.answer()
            if answer is None:
                break
            check(answer)
            statuses.append(answer.status)
            if answer.status == 400 and answer.slug == "malformed-request":
                assert answer.header("connection") == "close"
        return statuses, line.closed, line.received
    finally:
        line.close()


@pytest.mark.parametrize("case", CORPUS, ids=str)
async def test_each_hostile_request_gets_its_answer(fuzzed: Target, case: Case) -> None:
    with trio.fail_after(ANSWER_S):
        # One more than there may be: the connection must end, or stay open and answer an honest request.
        more = b"" if case.closes else LIVE
        statuses, closed, left = await talk(fuzzed, case.sent + more, until=len(case.answers) + 1)
    assert left == b""
    assert (statuses, closed) == ([*case.answers, *([] if case.closes else [200])], case.closes)


async def attack(target: Target, seed: int) -> None:
    """One mutated request. What comes back is whole answers of ours, then an end; in bounded time."""
    sent = mutated(seed)
    line = await Line.open(target.port)
    try:
        with trio.fail_after(ANSWER_S):
            await line.send(sent.replace(KEY, target.admin.encode()))
            with trio.move_on_after(ANSWER_S if owes_an_answer(sent) else QUIET_S):
                await line.more()
            await line.end()
            while await line.more():
                pass
        verify(sent, line.received)
    except BaseException as error:
        error.add_note(f"seed {seed}: {sent[:2000]!r}\nreceived: {line.received[:2000]!r}")
        raise
    finally:
        line.close()


def owes_an_answer(sent: bytes) -> bool:
    """Whether the first request has a whole head and no body that could still be coming; hanging up cuts no corner."""
    head, end, _ = sent.lstrip(b"\r\n").partition(b"\r\n\r\n")
    return bool(end) and not re.search(rb"content-length|transfer-encoding|expect", head, re.IGNORECASE)


def verify(sent: bytes, received: bytes) -> None:
    """Whole answers, except that the last may be cut short by our own hanging up."""
    count = 0
    while received and (found := answer_in(received, method_of(sent, received))) is not None:
        answer, received = found
        check(answer)
        count += 1
        if answer.header("connection") == "close":
            assert received == b"", "bytes after the last answer"
    if owes_an_answer(sent):
        assert count, "no answer"
    assert count <= sent.count(b"\n") + 1


def method_of(sent: bytes, received: bytes) -> bytes:
    """HEAD where the answer has no body and something in the request may have been read as HEAD."""
    while received.startswith(b"HTTP/1.1 1"):
        received = received.partition(b"\r\n\r\n")[2]
    _, _, body = received.partition(b"\r\n\r\n")
    return b"HEAD" if b"HEAD" in sent and (not body or body.startswith(b"HTTP/1.1 ")) else b"GET"


@pytest.mark.parametrize("requests", [2000, pytest.param(50_000, marks=pytest.mark.torture)])
@pytest.mark.timeout(1800)
async def test_mutated_requests_break_nothing(fuzzed: Target, requests: int) -> None:
    first = SEED if requests == 2000 else random.SystemRandom().randrange(1 << 40)
    print(f"seeds from {first}")  # noqa: T201 - shown when it fails
    before = fuzzed.connections()
    await in_parallel(48, [partial(attack, fuzzed, seed) for seed in (*FOUND, *range(first, first + requests))])
    await fuzzed.settle(before)
    await fuzzed.well()


async def test_a_request_in_single_bytes_is_a_request(fuzzed: Target) -> None:
    line = await Line.open(fuzzed.port)
    for byte in LIVE:
        await line.send(bytes([byte]))
        await trio.lowlevel.checkpoint()
    answer = await line.answer()
    assert answer is not None
    assert answer.status == 200
    line.close()


async def test_a_client_that_hangs_up_in_a_head_is_forgotten(fuzzed: Target) -> None:
    before = fuzzed.connections()
    for cut in range(0, len(LIVE), 3):
        line = await Line.open(fuzzed.port)
        await line.send(LIVE[:cut])
        line.abort()
    await fuzzed.settle(before)
    assert HOST in LIVE
