"""The promises of the house hold over hundreds of seeded schedules, and those schedules go everywhere they should."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from protocol.states import TABLE, State, Trigger
from tests.simulation.explorer import Report, explore

SEEDS, BLOCK = 200, 20
TORTURE = int(os.environ.get("SIMULATION_SEEDS", "5000"))
"""How many schedules `make torture` explores."""

TYPES = {
    "audit.abandoned", "audit.accepted", "audit.refused", "audit.replayed",
    "command.accepted", "command.cancelled", "command.completed", "command.dead_lettered", "command.expired",
    "command.failed", "command.rejected", "dead_letter.added", "dead_letter.discarded", "dead_letter.redelivered",
    "engine.crashed", "engine.disposed", "engine.dormant", "engine.failed", "engine.held", "engine.paused",
    "engine.pausing", "engine.resumed", "engine.spawned", "engine.stalled", "engine.started", "engine.starting",
    "engine.stopped", "engine.stopping", "log.line", "log.dropped", "request.decided", "request.expired",
    "request.opened", "request.used", "request.withdrawn", "run.cancelled", "run.completed", "run.failed",
    "run.interrupted", "run.queued", "run.started", "run.timed_out", "run.waiting", "state.patched",
    "probing.answered", "probing.cleanup", "probing.signalled", "probing.step", "probing.stopped",
}  # fmt: skip
"""Every type that can be written here; `run.output_chunk` waits for a real thread, which no clock of ours sees."""

WITH_PROCESSES = {(State.FAILED, Trigger.STOP)}
"""Cells of engines whose process tree outlives them; none here has one, and `tests/e2e/test_tmux.py` reaches them."""

explored = cache(explore)


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_promise_holds_in_every_schedule(first: int) -> None:
    failed = [report for seed in range(first, first + BLOCK) if (report := explored(seed)).violations]
    assert not failed, "\n".join(map(str, failed))


def test_the_schedules_reach_every_cell_of_the_lifecycle_and_every_type_of_event() -> None:
    reports: list[Report] = [explored(seed) for seed in range(SEEDS)]
    cells = {(state, trigger) for state, row in TABLE.items() for trigger in row} - WITH_PROCESSES
    assert cells == set().union(*(report.cells for report in reports))
    assert set().union(*(report.types for report in reports)) == TYPES


def test_a_seed_is_the_same_schedule_in_every_process(root: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "tests.simulation.explorer", "0", "6"],
        cwd=root, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert said.splitlines()[:6] == [f"{seed} {explored(seed).trace}" for seed in range(6)]
    assert [explore(seed) for seed in range(2)] == [explored(seed) for seed in range(2)]


@pytest.mark.torture
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + TORTURE, 100))
def test_every_promise_holds_in_many_more_schedules(first: int) -> None:
    failed = [report for seed in range(first, first + 100) if (report := explore(seed)).violations]
    assert not failed, "\n".join(map(str, failed[:5]))
