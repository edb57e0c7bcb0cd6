"""Run by test_kill.py: again and again a process that writes to a journal is killed with -9 in the middle of it.

    python -m tests.supervisor.store.killed JOURNAL SEED CYCLES

Prints one JSON line for each cycle: the ids of the commands whose commit was reported before the process died. The
cycles are forks of this one, so that Python starts only once; nothing of trio or SQLite is used before the fork.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Sequence

import trio

from protocol.writes import Commit
from supervisor.store.sqlite import SqliteStore
from tests.supervisor.store.journals import submit


async def write_for_ever(path: str, cycle: int, acks: int) -> None:
    store = SqliteStore(path)
    await store.open()
    progress = trio.lowlevel.ParkingLot()

    def committed(commits: Sequence[Commit]) -> None:
        text = "".join(f"{commit.write.command.id}\n" for commit in commits if commit.write.command)
        os.write(acks, text.encode())
        progress.unpark_all()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run, committed)
        for n in range(1_000_000):
            run = f"{cycle}-{n}"
            store.submit(submit(run, f"u{n % 3}", key=f"key-{run}"))
            if n % 7 == 0:
                await progress.park()


def main(path: str, seed: int, cycles: int) -> None:
    chance = random.Random(seed)
    for cycle in range(cycles):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            trio.run(write_for_ever, path, cycle, writer)
        os.close(writer)
        wanted, heard = chance.randrange(1, 300), b""
        while heard.count(b"\n") < wanted:
            heard += os.read(reader, 65536)
        os.kill(child, signal.SIGKILL)
        while more := os.read(reader, 65536):
            heard += more
        os.close(reader)
        os.waitpid(child, 0)
        sys.stdout.write(json.dumps(heard.decode().split()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
