"""What makes the journal tamper-evident: a hash chain over its rows.

    h_i = SHA-256(frame(DOMAIN, i, h_(i-1), length of row i), row i)        h_0 = GENESIS

The frame has a fixed width and holds the length of what follows, so no two different (i, h, row) are ever hashed as the
same bytes; the domain keeps these hashes apart from every other use of SHA-256. A chain finds what was changed, taken
out or moved *inside* it. That its end was cut off, or all of it rewritten, only something kept elsewhere can tell.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["GENESIS", "Break", "Fault", "link", "verify"]

DOMAIN = b"enginehouse journal row v1"
GENESIS = bytes(32)

_FRAME = struct.Struct(f">{len(DOMAIN)}sQ32sQ")


class Fault(StrEnum):
    """What is wrong where a chain breaks."""

    GAP = "gap"  # the row is not there
    ALTERED = "altered"  # row and hash do not follow from the row before
    ORDER = "order"  # the row comes later than it must, or a second time


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain stops being true. `seq`: the first row that is wrong; all before it are as they were written."""

    seq: int
    why: Fault


def link(previous: bytes, seq: int, row: bytes) -> bytes:
    """The 32-byte hash of row `seq`, given that of the row before it.

    Raises ValueError when `previous` is not 32 bytes, which would blur the frame; struct.error for a negative `seq`.
    """
    if len(previous) != 32:
        raise ValueError(f"the hash of the previous row has 32 bytes, not {len(previous)}")
    return hashlib.sha256(_FRAME.pack(DOMAIN, seq, previous, len(row)) + row).digest()


def verify(rows: Iterable[tuple[int, bytes, bytes]], previous: bytes = GENESIS, *, after: int = 0) -> Break | None:
    """The first break in (seq, row, hash) triples in stored order, or None when the chain holds.

    A journal whose beginning was trimmed is verified from the `seq` (`after`) and hash (`previous`) of its last trimmed
    row. Numbers are dense: a journal that starts later than `after + 1` has a gap. A row whose own hash was recomputed
    after a change is found one row later. Keeps no row; reads on after a jump, to tell a gap from a wrong order.
    """
    rows = iter(rows)
    for expected, (seq, row, digest) in enumerate(rows, start=after + 1):
        if seq > expected:
            return Break(expected, Fault.ORDER if any(later == expected for later, _, _ in rows) else Fault.GAP)
        if seq < expected:
            return Break(seq, Fault.ORDER)
        if link(previous, seq, row) != digest:
            return Break(seq, Fault.ALTERED)
        previous = digest
    return None
