"""The table of `bad_input.py`, walked cell by cell on one real daemon; and the order in which faults are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.attack.bad_input import CELLS, ELSEWHERE, LIMITS, Cell
from tests.attack.order import FAULTS, Fault, World, spoiled
from tests.attack.target import ANSWER_S, Target, ended, in_parallel, started
from tests.attack.wire import Line, request
from tests.e2e.daemons import PROGRAM, running
from tests.named import is_there
from web.problems import PROBLEMS, STATUS_OF

WITH_TWICE = "import actors.kinds as kinds; kinds.BUILT_IN['twice'] = 'tests.attack.twice:Twice'; " + PROGRAM


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    found = started(tmp_path_factory.mktemp("tabled") / "state", env=LIMITS, program=WITH_TWICE)
    yield found
    ended(found)


@pytest.mark.parametrize("cell", CELLS.values(), ids=[says.replace(" ", "-") for says in CELLS])
async def test_bad_input_gets_what_the_table_says(target: Target, cell: Cell) -> None:
    answer = await cell.brings(target)
    assert (answer.status, answer.slug) == (cell.status, cell.slug), answer
    for name, part in cell.headers.items():
        assert part in (answer.header(name) or "missing"), (name, answer)
        assert answer.header(name) is not None, (name, answer)
    problem = answer.json
    assert {name: problem.get(name) for name in cell.members} == cell.members
    assert problem["type"] == f"/problems/{cell.slug}"


def test_every_slug_is_in_the_table_with_every_status_it_can_have() -> None:
    told = {(cell.slug, cell.status) for cell in CELLS.values()}
    told |= {(row.slug, row.status) for row in ELSEWHERE.values() if row.status is not None}
    known = {(slug, status) for slug, (status, _) in PROBLEMS.items()}
    assert told == known | {(error.slug, status) for error, status in STATUS_OF.items()}


def test_what_is_proven_elsewhere_is_proven_there(root: Path) -> None:
    for row in ELSEWHERE.values():
        for test in row.tests:
            assert is_there(root, test), test
    assert [row.slug for row in ELSEWHERE.values() if not row.tests] == ["upstream-error"]


# -- the order ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(target: Target) -> World:
    world = World(target)
    trio.run(world.make)
    return world


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.says.replace(" ", "-") for fault in FAULTS])
async def test_the_earlier_of_two_faults_answers(world: World, fault: Fault) -> None:
    """And alone each answers for itself, or it would be no fault."""
    later = [other for other in FAULTS[FAULTS.index(fault) + 1 :] if fault.fits(other)]
    got: dict[str, tuple[int, str]] = {}

    async def send(*faults: Fault) -> None:
        got[", ".join(fault.says for fault in faults)] = await world.send(spoiled(*faults))

    await in_parallel(8, [partial(send, fault), *(partial(send, fault, other) for other in later)])
    assert set(got.values()) == {(fault.status, fault.slug)}, got


# -- what only a daemon of its own shows -------------------------------------------------------------------------------


async def test_a_stream_that_begins_while_the_house_closes(tmp_path: Path) -> None:
    async with running(tmp_path / "state") as daemon:
        asks = request("GET", "/api/v1/events", f"Authorization: Bearer {daemon.key}")
        early, late = await Line.open(daemon.port), await Line.open(daemon.port)
        async with early.stream, late.stream:
            await early.send(asks)
            assert await early.more()
            await late.send(asks[:-2])
            await Target(daemon).ask("POST", "/api/v1/admin/shutdown", {"grace_s": 60})
            with trio.fail_after(ANSWER_S):
                while b"server.closing" not in early.received:
                    assert await early.more()
                await late.send(asks[-2:])
                answer = await late.answer()
                assert await daemon.wait() == 0
    assert answer is not None
    assert (answer.status, answer.slug, answer.header("retry-after")) == (503, "shutting-down", "1")


BREAKS = (
    "import apsw; from pathlib import Path; from tests.supervisor.store.disks import Disk, broken\n"
    "def before(operation, path):\n"
    "    if path.endswith('-wal') and (told := Path(path).with_name('breaks')).exists():\n"
    "        raise broken(getattr(apsw, told.read_text()))\n"
    "disk = Disk(before)\n" + PROGRAM
)
"""A daemon whose disk breaks once there is a file `breaks` beside its journal, which says how."""


@pytest.mark.parametrize(
    "how, status, slug",
    [("SQLITE_FULL", 507, "storage-full"), ("SQLITE_IOERR_WRITE", 503, "store-unavailable")],
    ids=["full", "failed"],
)
async def test_a_disk_that_breaks_is_told_and_ends_the_house(tmp_path: Path, how: str, status: int, slug: str) -> None:
    async with running(tmp_path / "state", program=BREAKS) as daemon:
        target = Target(daemon)
        engine = await target.engine()
        (daemon.state / "breaks").write_text(how)
        answer = await target.ask("POST", f"/api/v1/engines/{engine}/runs", {"input": "x"})
        assert (answer.status, answer.slug) == (status, slug), answer
        with trio.fail_after(ANSWER_S):
            assert await daemon.wait() == 74
