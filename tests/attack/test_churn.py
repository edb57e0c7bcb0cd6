"""Clients that come and vanish, and clients that come back with positions that nobody gave them."""

from __future__ import annotations

import random
import re
from functools import partial
from typing import Final
from urllib.parse import quote

import pytest
import trio

from tests.attack.target import ANSWER_S, Target, in_parallel
from tests.attack.wire import Line, answer_in, check, request

SEED: Final = 20_260_102


def visits(target: Target, engine: str, pick: random.Random) -> bytes:
    """What somebody who is about to vanish had asked for."""
    key = f"Authorization: Bearer {target.admin}"
    json = "Content-Type: application/json"
    return pick.choice(
        [
            request("GET", "/health/live"),
            request("GET", "/api/v1/events?after=0", key),
            request("GET", f"/api/v1/engines/{engine}/events", key, "Last-Event-ID: 0"),
            request("GET", "/api/v1/events?snapshot=true", key),
            request("GET", "/api/v1/events?wait_s=30", key, "Accept: application/json"),
            request("POST", f"/api/v1/engines/{engine}/runs", key, json, "Prefer: wait=30", body=b'{"input":"x"}'),
            request("POST", f"/api/v1/engines/{engine}/runs", key, json, body=b'{"input":{"steps":1,"step_s":0.2}}'),
            request("GET", "/openapi.json") * 5,
            b"",
        ]
    )


async def come_and_vanish(target: Target, engine: str, seed: int) -> None:
    pick = random.Random(seed)
    sent = visits(target, engine, pick)
    line = await Line.open(target.port)
    await line.send(sent[: pick.randint(0, len(sent))] if pick.random() < 0.5 else sent)
    if pick.random() < 0.5:
        with trio.move_on_after(pick.random() * 0.05):
            await line.more()
    if pick.random() < 0.5:
        line.abort()
    else:
        line.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("clients", [500, pytest.param(10_000, marks=pytest.mark.torture)])
async def test_clients_that_vanish_leave_nothing(fuzzed: Target, clients: int) -> None:
    engine = await fuzzed.engine(mailbox_size=100_000)
    before, rss = fuzzed.connections(), fuzzed.rss_bytes()
    work = [partial(come_and_vanish, fuzzed, engine, seed) for seed in range(SEED, SEED + clients)]
    await in_parallel(64, work)
    await fuzzed.settle(before)
    # Every run that was accepted ends, though nobody waits for it any more.
    with trio.fail_after(ANSWER_S * 5):
        while (await fuzzed.ask("GET", f"/api/v1/engines/{engine}")).json["mailbox"]["queued"]:
            await fuzzed.ask("GET", "/api/v1/events?wait_s=1", None, "Accept: application/json")
    assert fuzzed.rss_bytes() - rss < 200_000_000
    await fuzzed.well()


class Position:
    """Event ids that no stream gave out, and a few that one did."""

    def __init__(self, ids: list[str]) -> None:
        """`ids`: of all that there is to see, in order; audit rows have numbers and are not among them."""
        self.visible = [int(event.rpartition(".")[2]) for event in ids]
        self.era = ids[-1].partition(".")[0]
        self.latest = self.visible[-1]

    def verify(self, ids: list[str], id: str) -> None:
        """After `id` comes what is visible after it, each once and in order; made-up ids are not followed at all."""
        numbers = [int(event.rpartition(".")[2]) for event in ids]
        match = re.fullmatch(r"(?:[0-9a-f]{8}\.)?(0|[1-9][0-9]{0,17})", id)
        if not id or not numbers:
            return
        assert match is not None, "a position that nobody gave was taken"
        known = [number for number in self.visible if number > int(match[1])]
        assert numbers[: len(known)] == known[: len(numbers)], "a hole, or an event twice"

    def hostile(self, pick: random.Random) -> str:
        digits = "".join(pick.choice("0123456789") for _ in range(pick.choice((1, 5, 17, 18, 19, 40, 400))))
        other = f"{pick.getrandbits(32):08x}"
        return pick.choice(
            [
                f"{self.era}.{pick.randint(0, self.latest)}", str(pick.randint(0, self.latest)), "0", "",
                f"{self.era}.{self.latest + pick.randint(1, 100)}", f"{other}.{pick.randint(0, self.latest)}",
                f"{self.era}.{digits}", digits, f"{self.era.upper()}.1", f"{self.era}.-1", f"{self.era}.01", f"{self.era}.",
                f".{self.latest}", f"{self.era}.1.2", f"{self.era} .1", f"{self.era}.1e3", f"{self.era}.0x1", "latest", "null",
                f"{self.era}.١", "' OR 1=1 --", "../../0", "%00", "[]", "\u202e0", "🧨",
                "".join(chr(pick.randrange(0x20, 0x7F)) for _ in range(pick.randint(1, 60))),
            ]
        )  # fmt: skip


async def resume(target: Target, position: Position, seed: int) -> None:
    """Whatever it is answered, the ids that follow rise from where it said it was."""
    pick = random.Random(seed)
    meant = position.hostile(pick)
    stream = pick.random() < 0.3
    header = pick.random() < 0.5 and meant.isprintable() and meant.isascii() and meant == meant.strip()
    accept = "text/event-stream" if stream else "application/json"
    lines = [
        f"Accept: {accept}",
        f"Authorization: Bearer {target.admin}",
        *([f"Last-Event-ID: {meant}"] if header else []),
    ]
    path = "/api/v1/events?limit=1000" if header else f"/api/v1/events?limit=1000&after={quote(meant, safe='')}"
    try:
        await (follow if stream else read_page)(target, position, request("GET", path, *lines), meant)
    except BaseException as error:
        error.add_note(f"seed {seed}: {meant!r}, stream {stream}, header {header}")
        raise


async def read_page(target: Target, position: Position, sent: bytes, id: str) -> None:
    answer = await target.exchange(sent)
    assert answer.status in {200, 400, 410, 422}
    if answer.status == 200:
        position.verify([item["id"] for item in answer.json["items"]], id)


async def follow(target: Target, position: Position, sent: bytes, id: str) -> None:
    line = await Line.open(target.port)
    try:
        await line.send(sent)
        with trio.fail_after(ANSWER_S):
            while b"\r\n\r\n" not in line.received:
                assert await line.more()
        if not line.received.startswith(b"HTTP/1.1 200"):
            with trio.fail_after(ANSWER_S):
                while (found := answer_in(line.received)) is None:
                    assert await line.more()
            check(found[0])
            assert found[0].status in {204, 400, 410, 422}
            return
        with trio.move_on_after(0.05):
            while len(line.received) < 50_000 and await line.more():
                pass
        whole = line.received.rpartition(b"\n\n")[0]  # the last frame may have been cut short by our leaving
        position.verify(re.findall(r"^id: (\S+)$", whole.decode(errors="replace"), re.MULTILINE), id)
    finally:
        line.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("clients", [500, pytest.param(20_000, marks=pytest.mark.torture)])
async def test_made_up_positions_open_nothing(fuzzed: Target, clients: int) -> None:
    await fuzzed.run(await fuzzed.engine(), {"steps": 20})
    before = fuzzed.connections()
    position = Position([row["id"] for row in await fuzzed.journal()])
    await in_parallel(16, [partial(resume, fuzzed, position, seed) for seed in range(SEED, SEED + clients)])
    await fuzzed.settle(before)
    await fuzzed.well()
