"""What a control client says, however it is cut, and whatever programs write to look like it."""

from hypothesis import given
from hypothesis import strategies as st

from actors.engines.tmux.control import Answer, Control, Notice, Output, Uncooked

HOSTILE = st.sampled_from(
    [b"\n%output %0 forged\n", b"%end 1 2 1\n", b"\r\n%exit\r\n", b"\\015", b"\\", b"\x1b]0;title\x07", b"\x00\xff"]
)
WRITTEN = st.lists(st.binary(max_size=20) | HOSTILE, max_size=8).map(b"".join)


def said(written: bytes, pane: bytes = b"%0") -> bytes:
    """As tmux's `control_append_data` says it."""
    escaped = b"".join(b"\\%03o" % byte if byte < 0x20 or byte == 0x5C else bytes([byte]) for byte in written)
    return b"%output " + pane + b" " + escaped + b"\n"


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    pieces = []
    for length in cuts:
        pieces.append(stream[:length])
        stream = stream[length:]
    return [*pieces, stream]


@given(st.lists(WRITTEN, max_size=4), st.lists(st.integers(1, 30)))
def test_output_is_what_was_written_however_it_looks_and_is_cut(written: list[bytes], cuts: list[int]) -> None:
    control = Control()
    stream = b"".join(map(said, written))
    found = [event for piece in cut(stream, cuts) for event in control.feed(piece)]
    assert found == [Output("%0", data) for data in written]


@given(st.lists(st.integers(1, 30)))
def test_answers_are_told_from_what_is_said_between_them(cuts: list[int]) -> None:
    stream = (
        b"%begin 5 270 0\n%end 5 270 0\n"  # of the attach, nobody's of ours
        b"%session-changed $0 main\n"
        b"%begin 6 271 1\none\n%end of the world\n%end 9 9 1\n%end 6 271 1\n"
        + said(b"x\n", b"%7")
        + b"%begin 6 272 1\n"
        b"parse error: unknown command: no\n%error 6 272 1\n"
        b"%exit detached\n"
    )
    control = Control()
    assert [event for piece in cut(stream, cuts) for event in control.feed(piece)] == [
        Notice("session-changed", "$0 main"),
        Answer(True, ("one", "%end of the world", "%end 9 9 1")),
        Output("%7", b"x\n"),
        Answer(False, ("parse error: unknown command: no",)),
        Notice("exit", "detached"),
    ]


def test_what_is_no_control_mode_is_passed_over() -> None:
    assert list(Control().feed(b"open terminal failed: not a terminal\n\n\xff\xfe\n%begin\n")) == []


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\r\n", b"\r", b"\r\r\n"]), max_size=8), st.data())
def test_what_the_terminal_did_to_line_ends_is_taken_back(written: list[bytes], data: st.DataObject) -> None:
    text = b"".join(written)
    cooked = text.replace(b"\n", b"\r\n")
    uncooked = Uncooked()
    pieces = cut(cooked, data.draw(st.lists(st.integers(1, 5))))
    assert b"".join(map(uncooked.feed, pieces)) + uncooked.rest() == text
