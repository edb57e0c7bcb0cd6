"""The ledger forgets what it may: counters and records come back from the home that keeps them."""

import random
from collections.abc import Collection, Mapping

from protocol.records import Record
from protocol.writes import Replay, Write
from supervisor.chain import GENESIS
from supervisor.store.audit import verify_chain, verify_records
from supervisor.store.ledger import Head, Key, Ledger, enter
from supervisor.store.memory import Journal, MemoryStore
from tests.supervisor.store.journals import begin, event, finish, submit


class Asked(Journal):
    """A journal that remembers which records it was asked for."""

    def __init__(self) -> None:
        super().__init__(era="00000000")
        self.asked: list[str] = []

    def keys(self, wanted: Collection[Key]) -> Mapping[Key, Replay]:
        assert wanted
        return super().keys(wanted)

    def record(self, kind: str, id: str) -> Record | None:
        self.asked.append(id)
        return super().record(kind, id)


def put(ledger: Ledger, journal: Journal, *writes: Write) -> None:
    journal.store(ledger.enter([enter(write) for write in writes]), ledger.head)


def again(run: str, uid: str = "u1") -> tuple[Write, Write]:
    """A run that its engine's crash interrupts and that goes back into the queue."""
    return (
        Write((event(uid, "run.interrupted", run_id=run, command_id=f"cmd-{run}", lost=True),)),
        Write((event(uid, "run.queued", run_id=run, command_id=f"cmd-{run}", again=True),)),
    )


async def test_a_ledger_with_hardly_any_memory_writes_the_same_journal() -> None:
    chance = random.Random(1)
    lives = [
        [submit(f"r{n}", uid), begin(f"r{n}", uid), *again(f"r{n}", uid), begin(f"r{n}", uid), finish(f"r{n}", uid)]
        for n in range(40)
        for uid in [f"u{n % 7}"]
    ]
    journal = Journal(era="00000000")
    ledger = Ledger(journal, journal.era, Head(0, GENESIS), memory=2)
    while lives:
        taken = [life.pop(0) for life in chance.choices(lives, k=3) if life]
        put(ledger, journal, *taken)
        lives = [life for life in lives if life]
    store = MemoryStore(journal)
    await store.open()
    assert await verify_records(store) == []
    assert await verify_chain(store) is None
    for uid in {kept.uid for kept in journal.rows}:
        numbers = [kept.engine_seq for kept in journal.rows if kept.uid == uid]
        assert numbers == list(range(1, len(numbers) + 1))
    await store.close()


def test_an_open_record_is_remembered_and_an_ended_one_is_not() -> None:
    journal = Asked()
    ledger = Ledger(journal, journal.era, Head(0, GENESIS))
    put(ledger, journal, submit("r1"), begin("r1"))
    put(ledger, journal, *again("r1"))
    put(ledger, journal, finish("r1"))
    assert journal.asked == []
    put(ledger, journal, Write((event("u1", "command.failed", command_id="cmd-r1"),)))
    assert journal.asked == ["cmd-r1"]
