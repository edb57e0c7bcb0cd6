"""How values are written on a command line."""

import io
from typing import Any

import pytest
import typer

from web.cli import texts


@pytest.mark.parametrize(
    "text, value",
    [
        ("3", 3),
        ("true", True),
        ('"3"', "3"),
        ('["a"]', ["a"]),
        ("a b", "a b"),
        ("", ""),
        ("{oops", "{oops"),
        ("null", None),
    ],
)
def test_what_is_json_is_json_and_the_rest_is_text(text: str, value: Any) -> None:
    assert texts.value(text) == value


def test_settings_make_one_table() -> None:
    settings = ["cwd=/tmp", "rows=50", "env.PATH=/bin", "env.A=b=c", '{"rows": 60, "shell": "/bin/sh"}']
    assert texts.table(settings) == {
        "cwd": "/tmp",
        "rows": 60,
        "env": {"PATH": "/bin", "A": "b=c"},
        "shell": "/bin/sh",
    }


@pytest.mark.parametrize("setting", ["cwd", "=x", "{oops"])
def test_what_is_no_setting_is_told(setting: str) -> None:
    with pytest.raises(typer.BadParameter):
        texts.table([setting])


def test_labels_are_always_text() -> None:
    assert texts.pairs(["n=3", "e="], "--label") == {"n": "3", "e": ""}
    with pytest.raises(typer.BadParameter, match="--label 'x' must be name=value"):
        texts.pairs(["x"], "--label")


def test_an_input_is_a_text_or_json_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts.text_or_json("3", None) == "3"
    assert texts.text_or_json(None, '{"steps": 3}') == {"steps": 3}
    monkeypatch.setattr("sys.stdin", io.StringIO("make\n"))
    assert texts.text_or_json("-", None) == "make\n"
    for both in ((None, None), ("a", "1")):
        with pytest.raises(typer.BadParameter):
            texts.text_or_json(*both)
