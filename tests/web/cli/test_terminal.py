"""What may reach a terminal of what strangers wrote."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.cli import show
from web.cli.runs import write_output
from web.cli.terminal import Tame, escaped


@pytest.mark.parametrize(
    "hostile, shown",
    [
        ("plain \u00fc\u20ac\tx\n", "plain \u00fc\u20ac\tx\n"),
        ("\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mx\x1b[m", "\x1b[31mred\x1b[0m \x1b[38;2;1;2;3mx\x1b[m"),
        ("a\x1b[2J\x1b[H\x1b[1;1fb", "ab"),
        ("\x9b2Jx\x9b31my", "xy"),
        ("\x1b]0;title\x07a\x1b]52;c;ZXZpbA==\x1b\\b\x1b]8;;http://evil\x1b\\c", "abc"),
        ("\x1bP+q544e\x1b\\a\x1b_Gx\x1b\\b\x1b^x\x1b\\c\x1bXx\x1b\\d\x90x\x9ce", "abcde"),
        ("\x1b[6n\x1b[c\x1b[5n\x1bZa", "a"),
        ("a\x1bcb\x1b7c\x1b(0d", "abcd"),
        ("safe\rEVIL\r\nnext\x08\x08\x7f\x00\x07", "safe\nEVIL\nnext"),
        ("\u202eabc\u2066\u200b", "abc"),
        ("\x1b[31\x1b[2Jx", "[31x"),
        ("a\x1b", "a"),
        ("a\x1b]0;never ends", "a"),
    ],
)
def test_only_text_and_colours_are_shown(hostile: str, shown: str) -> None:
    assert Tame().feed(hostile.encode()) == shown


@given(st.text(st.sampled_from("\x1b[]P\\;m0123J\x07\x9b\x9d\x9cab\n\r"), max_size=40), st.integers(1, 5))
def test_however_it_is_cut_nothing_but_text_and_colours_comes_out(text: str, size: int) -> None:
    tame, data = Tame(), text.encode()
    shown = "".join(tame.feed(data[at : at + size]) for at in range(0, len(data), size))
    for piece in shown.split("\x1b")[1:]:
        assert piece.startswith("[")
        assert piece[1:].lstrip("0123;:").startswith("m")
    assert all(char.isprintable() or char in "\n\t\x1b" for char in shown)


def test_a_sequence_without_an_end_is_not_kept_for_ever() -> None:
    tame = Tame()
    assert tame.feed(b"\x1b]0;") == ""
    shown = [tame.feed(b"x" * 1000) for _ in range(10)]
    assert (shown[0], shown[-1]) == ("", "x" * 1000)
    assert tame.feed(b"\x07back\n") == "back\n"


def test_the_end_of_a_line_in_two_pieces_is_one() -> None:
    tame = Tame()
    assert tame.feed(b"a\r") + tame.feed(b"\nb\rc") == "a\nb\nc"


class Screen(io.TextIOWrapper):
    """A standard output that is a terminal, or is not."""

    def __init__(self, terminal: bool) -> None:
        self.bytes = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.bytes, encoding="utf-8")

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal, shown", [(True, b"ab\n"), (False, b"a\x1b[2Jb\n")])
def test_a_pipe_gets_the_bytes_as_they_are(terminal: bool, shown: bytes) -> None:
    screen = Screen(terminal)
    write_output(b"a\x1b[2Jb\n", screen, Tame())
    assert screen.bytes.getvalue() == shown


@given(st.dictionaries(st.text(), st.text()))
def test_json_for_people_is_the_same_json_in_printable_characters(value: dict[str, str]) -> None:
    document = escaped(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(document) == value
    assert document.replace("\n", "").isprintable()


def test_json_of_an_engine_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    hostile: dict[str, Any] = {"text": "a\x9b2J\u202eb\x7f"}
    show.print_json(hostile)
    show.json_line(hostile)
    said = capsys.readouterr().out
    assert (said.replace("\n", "") + show.cell(hostile)).isprintable()
    assert json.loads(said.splitlines()[-1]) == hostile
