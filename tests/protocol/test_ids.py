from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import (
    RESERVED_PREFIXES,
    Ids,
    event_id,
    parse_event_id,
    valid_engine_id,
    valid_key,
)

NOW_MS = 1_750_000_000_123


def ids(*clock_ms: int, randbits: Callable[[int], int] | None = None) -> Ids:
    """A source whose clock shows these times, one for each id."""
    times: Iterator[int] = iter(clock_ms)
    return Ids(lambda: next(times), randbits or random.Random(7).getrandbits)


def number(text: str) -> uuid.UUID:
    return uuid.UUID(hex=text.partition("_")[2])


def test_an_id_is_its_prefix_and_32_lower_case_hex_digits() -> None:
    assert re.fullmatch(r"run_[0-9a-f]{32}", ids(NOW_MS).new("run"))


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))
def test_an_id_is_a_uuid_of_version_7_and_tells_its_millisecond(now_ms: int, bits: int) -> None:
    made = number(ids(now_ms, randbits=lambda n: bits & (1 << n) - 1).new("eng"))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_ms
    assert (made.int >> 64 & 0xFFF) << 62 | made.int & (1 << 62) - 1 == bits


def test_the_example_of_rfc_9562_is_reproduced() -> None:
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    made = ids(0x017F22E279B0, randbits=lambda _: rand_a << 62 | rand_b).new("run")
    assert number(made) == uuid.UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=50), st.randoms(use_true_random=False))
def test_ids_rise_whatever_the_clock_does(steps: list[int], rng: random.Random) -> None:
    source = ids(*(NOW_MS + step for step in steps), randbits=rng.getrandbits)
    made = [source.new("cmd") for _ in steps]
    assert all(earlier < later for earlier, later in pairwise(made))


@pytest.mark.parametrize("bit", [0, 1])
def test_ids_rise_with_the_poorest_randomness_while_the_clock_stands(bit: int) -> None:
    source = ids(*[NOW_MS] * 100, randbits=lambda n: bit * ((1 << n) - 1))
    made = [source.new("cmd") for _ in range(100)]
    assert made == sorted(set(made))
    assert {number(text).version for text in made} == {7}
    assert {number(text).variant for text in made} == {uuid.RFC_4122}


def test_a_full_millisecond_borrows_the_next() -> None:
    source = ids(NOW_MS, NOW_MS, randbits=lambda n: (1 << n) - 1)
    assert [number(source.new("cmd")).int >> 80 for _ in range(2)] == [NOW_MS, NOW_MS + 1]


def test_each_millisecond_draws_fresh_bits() -> None:
    source = ids(NOW_MS, NOW_MS + 1)
    first, second = (number(source.new("cmd")).int & (1 << 62) - 1 for _ in range(2))
    assert abs(second - first) > 2**32


def test_one_seed_makes_one_sequence() -> None:
    assert [ids(1, 1, 2).new("run") for _ in range(2)] == [ids(1, 1, 2).new("run") for _ in range(2)]


def test_a_clock_past_the_end_of_uuid7_is_refused() -> None:
    with pytest.raises(OverflowError):
        ids(2**48).new("run")


@pytest.mark.parametrize("text", ["a", "0", "build-7", "my.engine_2", "a" * 64, "eng", "engine_1", "runner"])
def test_a_client_may_choose(text: str) -> None:
    assert valid_engine_id(text)


@pytest.mark.parametrize(
    "text",
    ["", "a" * 65, "A", "-a", ".a", "_a", "a b", "a/b", "a\n", "é", "a\u0663", "a%2f", "eng_x", *RESERVED_PREFIXES],
)
def test_a_client_may_not_choose(text: str) -> None:
    assert not valid_engine_id(text)


@pytest.mark.parametrize("prefix", RESERVED_PREFIXES)
def test_what_we_generate_nobody_may_choose(prefix: str) -> None:
    assert not valid_engine_id(ids(NOW_MS).new(prefix[:-1]))


@pytest.mark.parametrize("text", ["a", " ", "Frühling 2025", "x" * 128, "日本", "a.b?c#d%2F\\"])
def test_a_key_is_any_printable_text(text: str) -> None:
    assert valid_key(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "a/b", "/", "a\n", "a\x00", "\x7f", "\u200b", "\ud800", "\u2028"])
def test_a_key_is_not(text: str) -> None:
    assert not valid_key(text)


@given(st.from_regex(r"[0-9a-f]{8}", fullmatch=True), st.integers(0, 10**18 - 1))
def test_an_event_id_is_read_back(era: str, seq: int) -> None:
    assert parse_event_id(event_id(era, seq)) == (era, seq)


def test_an_event_id_is_the_era_a_dot_and_the_number() -> None:
    assert event_id("00c0ffee", 17) == "00c0ffee.17"


def test_zero_alone_is_the_oldest_event() -> None:
    assert parse_event_id("0") == (None, 0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "17", "00", "-1", "+0", " 0", "0\n", ".0", "00c0ffee", "00c0ffee.", "00c0ffee.01", "00c0ffee.-1"),
        *("00C0FFEE.1", "0c0ffee.1", "000c0ffee.1", "00c0ffeg.1", "00c0ffee.1.2", "00c0ffee.1 ", "00c0ffee.\u0661"),
        *("00c0ffee.1_0", "00c0ffee.1e3", "00c0ffee." + "9" * 19, "00c0ffee." + "9" * 5000),
    ],
)
def test_a_malformed_event_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="event id"):
        parse_event_id(text)
