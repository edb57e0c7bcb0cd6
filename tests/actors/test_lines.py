"""Lines of a program that may send anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lines import Lines, LineTooLong


def lines(reader: Lines, *pieces: bytes) -> list[bytes]:
    return [line for piece in pieces for line in reader.feed(piece)]


def test_a_line_may_come_in_pieces_and_a_piece_may_hold_many() -> None:
    reader = Lines(100)
    assert lines(reader, b"on", b"e\ntwo\r\n\nfo", b"ur") == [b"one", b"two", b""]
    assert reader.rest() == b"four"
    assert reader.rest() == b""


def test_a_line_of_the_limit_passes_and_one_byte_more_is_a_fault() -> None:
    assert lines(Lines(5), b"12345\n") == [b"12345"]
    reader = Lines(5)
    with pytest.raises(LineTooLong, match="5 bytes") as raised:
        lines(reader, b"123", b"456")
    assert raised.value.begins == b"123"


def test_the_lines_before_an_overlong_one_are_given() -> None:
    reader = Lines(5)
    got = reader.feed(b"ok\n123456\n")
    assert next(got) == b"ok"
    with pytest.raises(LineTooLong):
        next(got)


def test_cut_gives_the_beginning_of_an_overlong_line_and_drops_its_rest() -> None:
    reader = Lines(5, cut=True)
    assert lines(reader, b"1234", b"56789", b"0" * 100, b"\nnext\n") == [b"12345", b"next"]


@given(st.lists(st.binary(max_size=20)), st.integers(0, 30))
def test_where_pieces_end_changes_nothing(pieces: list[bytes], limit_bytes: int) -> None:
    one, many = Lines(limit_bytes, cut=True), Lines(limit_bytes, cut=True)
    assert lines(one, b"".join(pieces)) == lines(many, *pieces)
    assert one.rest() == many.rest()
