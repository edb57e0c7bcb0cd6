"""The parser of server-sent events, against WHATWG HTML 9.2.6."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import EnginehouseError
from protocol.sse import SseEvent, SseParser


def parsed(raw: bytes, *cuts: int) -> list[SseEvent]:
    parser = SseParser()
    edges = [0, *sorted(cuts), len(raw)]
    return [event for a, b in pairwise(edges) for event in parser.feed(raw[a:b])]


STREAM = (
    b"\xef\xbb\xbf: hello\r\nretry: 250\r\rid: e.1\nevent: run.started\ndata: {}\n\n"
    b"data:a\r\ndata: b\r\n\r\n\n\nid\ndata\r\r"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    assert parsed(STREAM, *cuts) == [
        SseEvent("run.started", "e.1", b"{}"),
        SseEvent("message", None, b"a\nb"),
        SseEvent("message", "", b""),
    ]


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_every_newline_ends_a_line(newline: bytes) -> None:
    raw = newline.join([b"id: 7", b"data: x", b"", b"data: y", b"", b""])
    assert parsed(raw) == [SseEvent("message", "7", b"x"), SseEvent("message", None, b"y")]


def test_an_event_is_told_with_its_last_byte_even_when_that_is_a_cr() -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\r\n\r") == [SseEvent("message", None, b"x")]
    assert parser.feed(b"\n") == []
    assert parser.feed(b"data: y\n\n") == [SseEvent("message", None, b"y")]


def test_an_id_without_data_moves_the_position_and_is_no_event() -> None:
    parser = SseParser()
    assert parser.feed(b"id: e.9\n\n") == []
    assert parser.last_id == "e.9"


def test_an_id_counts_only_once_its_event_is_whole() -> None:
    parser = SseParser()
    parser.feed(b"id: e.9\ndata: half\n")
    assert parser.last_id is None


def test_retry_takes_digits_alone() -> None:
    parser = SseParser()
    parser.feed(b"retry: 1500\nretry: soon\nretry: -1\nretry: 1.5\n")
    assert parser.retry_ms == 1500


def test_an_id_with_nul_and_unknown_fields_are_ignored() -> None:
    assert parsed(b"id: a\0b\nwhat: ever\ndata:  two spaces\n\n") == [SseEvent("message", None, b" two spaces")]


def test_an_event_over_the_limit_is_an_error_and_comments_do_not_add_up() -> None:
    parser = SseParser(limit_bytes=1000)
    for _ in range(100):
        assert parser.feed(b": a heartbeat comment\n\n") == []
    with pytest.raises(EnginehouseError, match="1000 bytes"):
        for _ in range(100):
            parser.feed(b"data: " + b"x" * 50)


def test_an_event_of_sixteen_mebibytes_passes() -> None:
    data = b"x" * ((16 << 20) - 100)
    parser = SseParser()
    found = [
        event
        for i in range(0, len(data), 65536)
        for event in parser.feed((b"data: " if i == 0 else b"") + data[i : i + 65536])
    ]
    assert (found, [len(e.data) for e in parser.feed(b"\n\n")]) == ([], [len(data)])
