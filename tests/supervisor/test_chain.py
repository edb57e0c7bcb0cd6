from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.chain import GENESIS, Break, Fault, link, verify

Row = tuple[int, bytes, bytes]


def journal(length: int, previous: bytes = GENESIS, after: int = 0) -> list[Row]:
    rows: list[Row] = []
    for seq in range(after + 1, after + length + 1):
        row = b'{"type":"log.line","n":%d}' % seq
        previous = link(previous, seq, row)
        rows.append((seq, row, previous))
    return rows


def test_a_link_is_the_hash_of_domain_number_previous_hash_length_and_row() -> None:
    previous, row = bytes(range(32)), b'{"type":"log.line"}'
    framed = b"enginehouse journal row v1" + (7).to_bytes(8, "big") + previous + len(row).to_bytes(8, "big") + row
    assert link(previous, 7, row) == hashlib.sha256(framed).digest()


def test_the_first_links_never_change() -> None:
    first = link(GENESIS, 1, b"{}")
    assert first.hex() == "c8e3992a11a9392a4af6a0b09bd96e220b3736b2dff0c8b8c35658aafaa2fd98"
    assert link(first, 2, b"").hex() == "a3ab0f74c54cbd26fb3e4905f0aebfc631e5a6dfb6e8be1ac7aa7a7c6fb9edc3"


def test_every_part_of_a_link_counts() -> None:
    base = link(GENESIS, 1, b"row")
    assert (
        len({base, link(base, 1, b"row"), link(GENESIS, 2, b"row"), link(GENESIS, 1, b"row "), link(GENESIS, 1, b"")})
        == 5
    )


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_previous_hash_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        link(bytes(length), 1, b"row")


@pytest.mark.parametrize("length", [0, 1, 5])
def test_what_was_written_verifies(length: int) -> None:
    assert verify(journal(length)) is None


def test_a_trimmed_journal_verifies_from_where_it_was_cut() -> None:
    rows = journal(6)
    assert verify(rows[3:], previous=rows[2][2], after=3) is None


def test_a_trimmed_journal_does_not_verify_from_elsewhere() -> None:
    rows = journal(6)
    assert verify(rows[3:], previous=rows[1][2], after=3) == Break(4, Fault.ALTERED)
    assert verify(rows[3:], previous=rows[2][2], after=2) == Break(3, Fault.GAP)
    assert verify(rows[3:]) == Break(1, Fault.GAP)


@given(st.integers(1, 8), st.data())
def test_one_flipped_bit_is_found_where_it_is(length: int, data: st.DataObject) -> None:
    rows = journal(length)
    at = data.draw(st.integers(0, length - 1))
    part = data.draw(st.sampled_from([1, 2]))
    altered: list[Any] = list(rows[at])
    bit = data.draw(st.integers(0, len(altered[part]) * 8 - 1))
    altered[part] = (int.from_bytes(altered[part], "big") ^ 1 << bit).to_bytes(len(altered[part]), "big")
    rows[at] = (altered[0], altered[1], altered[2])
    assert verify(rows) == Break(at + 1, Fault.ALTERED)


def test_a_rewritten_row_with_a_hash_to_match_is_found_one_row_later() -> None:
    rows = journal(5)
    rows[2] = (3, b"forged", link(rows[1][2], 3, b"forged"))
    assert verify(rows) == Break(4, Fault.ALTERED)


def test_a_row_of_another_chain_is_found() -> None:
    rows, other = journal(5), journal(5, previous=b"\x01" * 32)
    rows[2] = other[2]
    assert verify(rows) == Break(3, Fault.ALTERED)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_missing_row_is_a_gap(at: int) -> None:
    rows = journal(5)
    del rows[at]
    assert verify(rows) == Break(at + 1, Fault.GAP)


@pytest.mark.parametrize(
    "tamper, seq",
    [
        (lambda rows: [rows[0], rows[2], rows[1], rows[3]], 2),
        (lambda rows: rows[::-1], 1),
        (lambda rows: [*rows, rows[3]], 4),
        (lambda rows: [*rows, rows[0]], 1),
    ],
    ids=["swapped", "reversed", "twice", "starts again"],
)
def test_rows_out_of_place_are_a_wrong_order(tamper: Callable[[list[Row]], list[Row]], seq: int) -> None:
    assert verify(tamper(journal(4))) == Break(seq, Fault.ORDER)


def test_removing_a_row_and_renumbering_the_rest_is_found() -> None:
    rows = journal(5)
    renumbered = [rows[0], *((seq - 1, row, digest) for seq, row, digest in rows[2:])]
    assert verify(renumbered) == Break(2, Fault.ALTERED)


def test_rows_may_come_as_a_stream() -> None:
    assert verify(iter(journal(3))) is None
    assert verify(row for row in journal(4) if row[0] != 2) == Break(2, Fault.GAP)


def test_a_break_is_a_fact() -> None:
    found = Break(1, Fault.GAP)
    with pytest.raises(FrozenInstanceError):
        found.seq = 2  # type: ignore[misc]  # what must not be possible
