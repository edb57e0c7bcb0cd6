"""Every row of the table runs and gives numbers. What they are is not asserted: machines are shared."""

import json
import math

import pytest

from bench.__main__ import about, chosen, rows
from bench.figures import Figure, Scale, as_json, as_markdown, at_least, at_most, figure

QUICK = Scale(rounds=1, quick=True)


@pytest.mark.parametrize("name", rows())
def test_a_row_runs_and_gives_numbers(name: str) -> None:
    (row,) = chosen([name]).values()
    figures = row(QUICK)
    assert figures
    for one in figures:
        assert math.isfinite(one.value)
        assert one.reference is None or one.reference > 0
        assert one.ratio is None or one.ratio >= 0


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    one = figure("what", "1/s", [10, 20, 90], "reference", [1, 10, 10], at_least(9))
    assert (one.value, one.reference, one.ratio, one.met) == (20, 10, 9, True)


def test_without_a_reference_the_budget_is_of_the_value() -> None:
    assert figure("what", "ms", [3], budget=at_most(2)).met is False
    assert figure("what", "ms", [3]).met is None


def test_the_table_shows_budgets_beside_the_figures() -> None:
    measured: dict[str, list[Figure]] = {"a.row": [figure("what", "ms", [3], "that", [2], at_most(2))]}
    table = as_markdown(about(QUICK), measured)
    assert "| a.row | what | 3 ms | that | 2 ms | 1.50x | at most 2x | yes |" in table
    assert json.loads(as_json(about(QUICK), measured))["rows"]["a.row"][0]["met"] is True


def test_rows_are_asked_for_by_subject_or_by_name() -> None:
    assert list(chosen(["mailbox"])) == ["mailbox.loaded", "mailbox.fan"]
    assert list(chosen(["tell"])) == ["actors.tell"]
    with pytest.raises(SystemExit, match="There is no row 'none'"):
        chosen(["none"])
