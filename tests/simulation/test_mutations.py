"""Break one mechanism of the house, and the explorer sees it within a few seeds; else its check is worth nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from actors import delivery, loop
from actors.cell import Cell
from actors.context import Context
from actors.incarnation import Incarnation
from actors.mailbox import Mailbox
from actors.requests import Requests
from actors.runs import Runs
from protocol.commands import Command, Signal, Submit
from protocol.writes import Write
from supervisor import recovery
from supervisor.intake import Intake
from supervisor.receipts import Receipt
from supervisor.store.ledger import Ledger
from tests.mutation import Mutation, mutated, replaced
from tests.simulation.explorer import explore
from tests.simulation.world import Disk

pytestmark = pytest.mark.filterwarnings("ignore")  # a broken house may leave anything behind

SEEDS = 40
"""Within how many seeds a mutation has to be seen."""


REFUSED = "cell.reject(command, error)\n            return error"
USED = """lot.park()
            if request.state is RequestState.ANSWERED:
                used.append(cell.requests.use(request))"""

MUTATIONS = [
    Mutation("a command without its audit row", Intake, "_taken", "if trail is None", "if trail is None or more"),
    Mutation("the gate looks once", Incarnation, "gate", "lot.park()", "lot.park()\n            return"),
    Mutation("the gate is open", Incarnation, "gate", "if not self.shut or", "if True or"),
    Mutation("no second look at delivery", delivery, "deliver", REFUSED, "step = Step.REPEAT"),
    Mutation("a run starts before that is durable", loop, "_run", "quietly(cell.barrier)", "quietly(None)"),
    Mutation("a held engine boots", Cell, "boot", "if self.held:", "if False:"),
    Mutation("the exception goes before the own flag", Cell, "exited", "is State.STOPPING:", "is State.STOPPED:"),
    Mutation("what is in hand is forgotten by a crash", Runs, "end_in_hand", "list(cell.mailbox.hand)", "()"),
    Mutation("who works is not counted", Incarnation, "quiescent", "return all(", "return True or all("),
    Mutation("control is not settled", delivery, "deliver", "if changed is not None:", "if False:"),
    Mutation("a place is never given back", Receipt, "resolve", "self.cell.mailbox.release()", "pass"),
    Mutation("holds die with the house", Cell, "restore", "dict(view.holds)", "{}"),
    Mutation("keys are not looked at", Ledger, "enter", "if key is not None and key in taken", "if False"),
    Mutation("engines are never told of a release", loop, "quiesce", "await engine.on_resume(actor.ctx)", "pass"),
    Mutation("a decided request is open still", Requests, "decide", "RequestState.ANSWERED", "RequestState.PENDING"),
    Mutation("an answer is used while held", Context, "_decided", "lot.park()", USED),
    Mutation("an interrupted run goes to the end", Mailbox, "put_back", "front=True", "front=False"),
    Mutation("a cancel is settled before the run", Runs, "cancel", "return None", "return True"),
    Mutation("readers think the ring holds all", recovery, "recover", "house.rings.house.lost = ", ""),
]


def seen() -> str | None:
    """The first violation of the first seed that has one."""
    return next((found[0] for seed in range(SEEDS) if (found := explore(seed).violations)), None)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_broken_mechanism_is_seen(mutation: Mutation) -> None:
    with mutated(mutation):
        assert seen() is not None


def test_work_that_its_sender_queues_before_it_is_durable_is_seen() -> None:
    """The commit callback is the one door; here the requester takes its own."""
    early: set[str] = set()
    deliver: Callable[[Cell, Command], Any] = delivery.deliver
    submit = Disk.submit

    def door(cell: Cell, command: Command) -> Any:
        return None if command.id in early else deliver(cell, command)

    def requester(disk: Disk, write: Write) -> None:
        submit(disk, write)
        receipt, command = write.tag, write.command
        if isinstance(receipt, Receipt) and receipt.cell and command and isinstance(command.body, Submit | Signal):
            early.add(command.id)
            deliver(receipt.cell, command)

    with replaced(delivery, "deliver", door), replaced(Disk, "submit", requester):
        assert seen() is not None
