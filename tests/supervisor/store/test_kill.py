"""I1, I5 and I20 with kill -9: what was acknowledged is there, nothing is there in halves, the next owner gets it."""

import json
import subprocess
import sys
from pathlib import Path

import trio

from protocol.records import CommandRecord
from supervisor.store.audit import verify_chain, verify_records
from supervisor.store.contract import Page
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.store.journals import Place

CYCLES = 10


def test_a_killed_process_leaves_everything_it_acknowledged(tmp_path: Path, root: Path) -> None:
    async def look() -> None:
        async with Place(lambda: SqliteStore(path)).serve() as house:
            rows = await house.store.read(after=0, limit=1_000_000)
            assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
            for uid in ("u0", "u1", "u2"):
                engine = [row.engine_seq for row in rows if row.uid == uid]
                assert engine == list(range(1, len(engine) + 1))
            assert {row.command_id for row in rows} >= acknowledged
            assert [row.type for row in rows] == ["command.accepted", "run.queued"] * (len(rows) // 2)
            assert await verify_chain(house.store) is None
            assert await verify_records(house.store) == []
            assert house.store.fence == CYCLES + 1
            records = await house.store.list("command", Page(limit=1_000_000))
            assert {record.id for record in records if isinstance(record, CommandRecord)} >= acknowledged

    path = tmp_path / "journal.db"
    program = [sys.executable, "-m", "tests.supervisor.store.killed", str(path), "1", str(CYCLES)]
    output = subprocess.run(program, cwd=root, check=True, capture_output=True, timeout=60).stdout
    cycles = [json.loads(line) for line in output.splitlines()]
    assert len(cycles) == CYCLES
    acknowledged = {name for cycle in cycles for name in cycle}
    assert len(acknowledged) == sum(map(len, cycles)) > 500
    trio.run(look)
