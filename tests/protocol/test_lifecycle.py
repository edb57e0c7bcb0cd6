"""The tables in the code and in `docs/lifecycle.md` say the same, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.decide import Cause, Exit, History, decide
from protocol.plan import PLANS, Column, Verb
from protocol.specs import Policy, Restart
from protocol.states import ACTOR, EVENT_OF, NO_ACTOR, TABLE, State, Trigger

MARKS = {ACTOR: " (A)", NO_ACTOR: " (C)"}
EXITS = {"by itself": Cause.FINISHED, "by an exception": Cause.CRASHED, "a boot": Cause.UNMENDABLE}
OUTCOMES = {Trigger.CRASHED: "restart", Trigger.ENDED: "ended", Trigger.GAVE_UP: "gave_up"}


def tables(text: str) -> list[list[list[str]]]:
    """Every Markdown table as rows of cells, without the ruler under its head."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


@pytest.fixture(scope="module")
def page(root: Path) -> list[list[list[str]]]:
    return tables((root / "docs" / "lifecycle.md").read_text(encoding="utf-8"))


def find(page: list[list[list[str]]], head: str) -> dict[tuple[str, str], str]:
    """The table whose first column has this head, as (row, column) -> cell."""
    (table,) = [table for table in page if table[0][0] == head]
    return {(row[0], name): cell for row in table[1:] for name, cell in zip(table[0][1:], row[1:], strict=True)}


def test_the_page_shows_every_cell_of_the_state_table(page: list[list[list[str]]]) -> None:
    in_code = {
        (state.value, trigger.value): TABLE[state][trigger][0].value + MARKS.get(TABLE[state][trigger][1], "")
        if trigger in TABLE[state]
        else "."
        for state in State
        for trigger in Trigger
    }
    assert find(page, "state") == in_code


def test_the_page_shows_every_cell_of_the_plan_table(page: list[list[list[str]]]) -> None:
    in_code = {(verb.value, column.value): PLANS[verb][column].value for verb in Verb for column in Column}
    assert find(page, "command") == in_code


def test_the_page_names_the_row_of_every_trigger(page: list[list[list[str]]]) -> None:
    shown = {trigger: cell.strip("`") for (trigger, head), cell in find(page, "trigger").items() if head == "row"}
    assert shown == {trigger.value: name for trigger, name in EVENT_OF.items()}


def test_the_page_describes_every_state_in_order(page: list[list[list[str]]]) -> None:
    assert [state for state, _ in find(page, "word")] == [state.value for state in State]


def test_the_page_shows_what_every_policy_does_with_every_exit(page: list[list[list[str]]]) -> None:
    shown = find(page, "exit")
    assert len(shown) == len(EXITS) * len(Policy)
    for (how, policy), outcome in shown.items():
        (cause,) = [cause for name, cause in EXITS.items() if how.startswith(name)]
        decision = decide(Restart(policy=Policy(policy)), History(), Exit(cause), 0.0)
        assert OUTCOMES[decision.trigger] == outcome, (how, policy)
