"""kill -9 of the daemon under load, over and over: what was acknowledged is there, once, and no stream has a hole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from protocol.errors import Unavailable
from protocol.events import Row
from supervisor import Caller, Filter, NewEngine, NewRun, SqliteStore
from supervisor.house import House
from supervisor.store.audit import verify_chain, verify_records
from tests.e2e.daemons import Daemon, running

CLIENTS = 4
READERS = 2
ACKS_PER_LIFE = (3, 17, 8, 29, 1)
"""After how many more acknowledgements the next kill comes, in turn."""


class Load:
    """What clients and readers saw."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.seen: dict[int, list[str]] = {}
        self.enough = trio.Event()
        self.wanted = 0

    def want(self, more: int) -> None:
        self.wanted, self.enough = len(self.acknowledged) + more, trio.Event()

    def acknowledge(self, key: str, run_id: str) -> None:
        self.acknowledged[key] = run_id
        if len(self.acknowledged) >= self.wanted:
            self.enough.set()


async def submit_for_ever(daemon: Daemon, load: Load, name: str) -> None:
    """One key after the other; each is repeated until it is acknowledged."""
    async with daemon.client() as house:
        number = 0
        while True:
            number += 1
            key = f"{name}-{number}"
            try:
                run, _ = await house.submit(f"engine-{number % 3}", NewRun(input={"steps": 2}), Caller(key=key))
            except Unavailable:
                number -= 1
                continue
            load.acknowledge(key, run.id)


async def read_for_ever(daemon: Daemon, load: Load, reader: int, ready: trio.Event) -> None:
    """One subscription through every kill: it reconnects by Last-Event-ID on its own."""
    seen = load.seen[reader] = []
    async with daemon.client() as house, house.events(Filter(), after="0") as events:
        while True:
            for frame in await events.receive():
                assert frame.event not in ("gap", "end"), frame
                if frame.id is not None:
                    seen.append(frame.id)
            ready.set()


@pytest.mark.parametrize("kills", [25, pytest.param(500, marks=pytest.mark.torture)])
async def test_kills_lose_nothing_that_was_acknowledged_and_show_each_event_once(tmp_path: Path, kills: int) -> None:
    load = Load()
    async with running(tmp_path / "state") as daemon:
        async with daemon.client() as house:
            for number in range(3):
                await house.spawn(NewEngine(kind="probe", id=f"engine-{number}"))
        async with trio.open_nursery() as nursery:
            started = [trio.Event() for _ in range(READERS)]
            for reader in range(READERS):
                nursery.start_soon(read_for_ever, daemon, load, reader, started[reader])
            for event in started:
                await event.wait()
            for client in range(CLIENTS):
                nursery.start_soon(submit_for_ever, daemon, load, f"client-{client}")
            for cycle in range(kills):
                load.want(ACKS_PER_LIFE[cycle % len(ACKS_PER_LIFE)])
                with trio.fail_after(60):
                    await load.enough.wait()
                await daemon.kill()
                await daemon.start()
            nursery.cancel_scope.cancel()
        async with daemon.client() as house:
            last = await last_event(house)
            for reader in range(READERS):
                with trio.fail_after(30):
                    await catch_up(daemon, load.seen[reader], last)
        assert await daemon.stop() == 0
    await check_journal(tmp_path / "state" / "journal.db", load)


async def last_event(house: House) -> str:
    """The newest that a reader sees: behind it there are audit rows."""
    last = after = "0"
    while items := (page := await house.event_page(after=after, limit=1000)).items:
        last, after = items[-1]["id"], page.next_after
    return last


async def catch_up(daemon: Daemon, seen: list[str], last: str) -> None:
    """Read on from where the reader was, as a client that comes back later does."""
    until = int(last.rpartition(".")[2])
    async with daemon.client() as house, house.events(Filter(), after=seen[-1]) as events:
        while int(seen[-1].rpartition(".")[2]) < until:
            seen += [frame.id for frame in await events.receive() if frame.id is not None]


async def check_journal(path: Path, load: Load) -> None:
    store = SqliteStore(path)
    await store.open()
    rows: list[Row] = []
    while page := await store.read(after=len(rows)):
        rows += page
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1)), "seq is dense"
    runs = {row.run_id: row.command_id for row in rows if row.type == "run.queued" and "input" in row.data}
    assert set(load.acknowledged.values()) <= runs.keys(), "every acknowledged run is in the journal"
    assert len(set(load.acknowledged.values())) == len(load.acknowledged), "one run for each key"
    accepted = [row.command_id for row in rows if row.type == "command.accepted" and row.data["type"] == "submit"]
    unacknowledged = len(accepted) - len(load.acknowledged)
    assert 0 <= unacknowledged <= CLIENTS, "a repeated key made no second run"
    visible = [row.seq for row in rows if not row.type.startswith("audit.")]
    for reader, seen in load.seen.items():
        numbers = [int(event.rpartition(".")[2]) for event in seen]
        assert numbers == visible[: len(numbers)], f"reader {reader} saw each event once and in order"
    audited = Counter(row.command_id for row in rows if row.type == "audit.accepted")
    assert all(audited[command] == 1 for command in accepted), "each command has its one audit row"
    assert await verify_chain(store) is None
    assert await verify_records(store) == []
    await store.close()
