"""Marks in a stream, wherever its pieces end."""

from hypothesis import given
from hypothesis import strategies as st

from actors.engines.marks import Marks

# Bytes that look like marks, and parts of them, beside any others.
PIECES = st.lists(st.binary(max_size=8) | st.sampled_from([b"\x1e", b"\x1eab", b" 0\x1e"]), max_size=8)


def mark(marks: Marks, word: str) -> bytes:
    return marks.printf.replace(r"\036", "\x1e").replace("%s", word).encode()


def joined(found: list[bytes | str]) -> list[bytes | str]:
    """With neighbouring output made one."""
    made: list[bytes | str] = []
    for piece in found:
        if isinstance(piece, bytes) and made and isinstance(made[-1], bytes):
            made[-1] += piece
        else:
            made.append(piece)
    return made


@given(PIECES, PIECES, st.integers(0, 255), st.lists(st.integers(1, 30)))
def test_what_stands_around_marks_is_output_however_it_is_cut(
    before: list[bytes], after: list[bytes], status: int, cuts: list[int]
) -> None:
    marks = Marks()
    head, tail = b"".join(before), b"".join(after)
    stream = mark(marks, "begin") + head + mark(marks, str(status)) + tail
    found: list[bytes | str] = []
    for cut in cuts:
        piece, stream = stream[:cut], stream[cut:]
        found += marks.feed(piece)
    found += [*marks.feed(stream), marks.rest()]
    expected = ["begin", head, str(status), tail]
    assert joined([piece for piece in found if piece]) == [piece for piece in expected if piece]


def test_only_what_could_become_a_mark_is_held_back() -> None:
    marks = Marks()
    whole = mark(marks, "begin")
    assert list(marks.feed(b"output")) == [b"output"]
    assert list(marks.feed(b"more\x1e")) == [b"more"]
    assert list(marks.feed(b"x")) == [b"\x1ex"]
    assert list(marks.feed(whole[:-1])) == []
    assert list(marks.feed(whole[-1:])) == ["begin"]
    assert list(marks.feed(mark(marks, "x" * 20))) == [mark(marks, "x" * 20)[:-1]]  # a word is short
    assert marks.rest() == b"\x1e"


def test_another_commands_mark_is_output() -> None:
    other = mark(Marks(), "0")
    marks = Marks()
    assert b"".join(piece for piece in marks.feed(other + b".") if isinstance(piece, bytes)) == other + b"."
