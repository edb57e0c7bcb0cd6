"""What a command prints."""

import json

import pytest

from protocol import errors
from web.cli import show
from web.cli.exits import EXITS, exit_of


def test_a_table_in_a_pipe_is_plain_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "a", "n": 1, "on": True}, {"id": "b" * 30, "n": 0.5, "on": None}]
    show.table(rows, ("id", "n", "on"), empty="none")
    assert capsys.readouterr().out.splitlines() == [
        "id" + " " * 30 + "n    on",
        "a" + " " * 31 + "1    yes",
        "b" * 30 + "  0.5",
    ]


def test_an_empty_table_is_said_to_people_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([], ("id",), empty="There are none.")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "There are none.\n")


def test_a_record_leaves_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    show.record({"id": "a", "error": None, "labels": {}, "holds": [{"holder": "x"}]})
    assert capsys.readouterr().out == 'id      a\nholds   [{"holder": "x"}]\n'


def test_nothing_that_an_engine_says_moves_the_cursor() -> None:
    assert show.cell("a\x1b[2J\nb\x07") == "a?[2J b?"
    assert show.cell("x" * 100) == "x" * 59 + "…"
    assert show.cell("x" * 100, wide=True) == "x" * 100


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_json({"ü": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"ü": [1, None]}


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.ValidationFailed, 2),
        (errors.NotFound, 3),
        (errors.EngineDisposed, 3),
        (errors.InvalidState, 4),
        (errors.MailboxFull, 4),
        (errors.Unauthenticated, 5),
        (errors.InsufficientScope, 5),
        (errors.ShuttingDown, 69),
        (errors.EnginehouseError, 1),
    ],
)
def test_each_branch_of_the_error_tree_has_its_exit_code(error: type[errors.EnginehouseError], code: int) -> None:
    assert exit_of(error("x")) == code
    assert code in EXITS
