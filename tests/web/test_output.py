"""A run's output: which bytes are asked for, and that those are sent."""

from typing import Any

import pytest
import trio

from protocol.errors import RangeNotSatisfiable
from tests.web.doubles import Client, RecordingHouse, client
from web.output import Span

OUTPUT = "/api/v1/runs/r/output"
TEXT = bytes(range(48, 58)) * 60_000  # more than one piece


class Output(RecordingHouse):
    async def output(self, run: str, *, after: int = 0, limit: int = 1 << 20) -> tuple[bytes, int]:
        await trio.lowlevel.checkpoint()
        return TEXT[after : after + limit], len(TEXT)


@pytest.fixture
def ask() -> Client:
    return client(Output())


@pytest.mark.parametrize(
    "after, range, start, stop, partial",
    [
        (None, None, 0, 10, False),
        (4, None, 4, 10, False),
        (10, None, 10, 10, False),
        (4, "bytes=0-1", 4, 10, False),
        (None, "bytes=0-3", 0, 4, True),
        (None, "bytes=4-", 4, 10, True),
        (None, "bytes=4-99", 4, 10, True),
        (None, "bytes=-3", 7, 10, True),
        (None, "bytes=-99", 0, 10, True),
        (None, "bytes = 1 - 2", 1, 3, True),
        (None, "bytes=-", 0, 10, False),
        (None, "bytes=3-2", 0, 10, False),
        (None, "bytes=0-1,3-4", 0, 10, False),
        (None, "lines=0-1", 0, 10, False),
    ],
)
def test_the_bytes_that_are_asked_for(
    after: int | None, range: str | None, start: int, stop: int, partial: bool
) -> None:
    assert Span.of(10, after=after, range=range) == Span(start, stop, 10, partial)


@pytest.mark.parametrize(
    "size, asked",
    [
        (10, {"after": 11}),
        (10, {"range": "bytes=10-"}),
        (0, {"range": "bytes=0-"}),
        (0, {"range": "bytes=-1"}),
        (10, {"range": "bytes=-0"}),
    ],
)
def test_bytes_that_are_not_there(size: int, asked: dict[str, Any]) -> None:
    with pytest.raises(RangeNotSatisfiable):
        Span.of(size, **({"after": None, "range": None} | asked))


def test_a_conditional_range_is_ignored_since_there_is_nothing_to_compare() -> None:
    assert Span.of(10, after=None, range="bytes=0-1", conditional=True) == Span(0, 10, 10)


async def test_the_whole_output_is_sent_with_its_length(ask: Client) -> None:
    got = await ask.get(OUTPUT)
    assert (got.status, got.headers["content-length"], got.body) == (200, str(len(TEXT)), TEXT)
    assert (got.headers["content-type"], got.headers["accept-ranges"]) == ("text/plain; charset=utf-8", "bytes")


async def test_a_range_is_206(ask: Client) -> None:
    got = await ask.get(OUTPUT, range="bytes=5-9")
    assert (got.status, got.body, got.headers["content-length"]) == (206, b"56789", "5")
    assert got.headers["content-range"] == f"bytes 5-9/{len(TEXT)}"


async def test_a_range_outside_is_416(ask: Client) -> None:
    got = await ask.get(OUTPUT, range=f"bytes={len(TEXT)}-")
    assert (got.status, got.slug, got.json["size_bytes"]) == (416, "range-not-satisfiable", len(TEXT))


async def test_head_sends_the_length_alone(ask: Client) -> None:
    got = await ask.ask("HEAD", OUTPUT, None, {})
    assert (got.status, got.headers["content-length"], got.body) == (200, str(len(TEXT)), b"")


async def test_following_sends_what_comes_until_the_run_ends() -> None:
    house = Output()
    house.gives["follow"] = [b"one", b"two"]
    got = await client(house).get(f"{OUTPUT}?follow=true&after=5")
    assert (got.status, got.body) == (200, b"onetwo")
    assert "content-length" not in got.headers
