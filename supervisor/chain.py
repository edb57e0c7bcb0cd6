"""What makes the journal tamper-evident: a hash chain over its rows, and a digest for each run.

    h_i = SHA-256(frame(DOMAIN, i, h_(i-1), length of row i), row i)        h_0 = GENESIS

The frame has a fixed width and holds the length of what follows, so no two different (i, h, row) are ever hashed as the
same bytes; the domain keeps these hashes apart from every other use of SHA-256. A chain finds what was changed, taken
out or moved *inside* it. That its end was cut off, or all of it rewritten, only something kept elsewhere can tell.

A run's digest is the SHA-256 of an RFC 8785 (JCS) canonical JSON array, so anybody can recompute it from the run's
event log with any JCS library. It says what happened, not where it is written: numbers that a store assigns stay out.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import rfc8785

__all__ = ["GENESIS", "MEMBERS", "Break", "Digest", "Fault", "link", "run_digest", "verify"]

DOMAIN = b"enginehouse journal row v1"
GENESIS = bytes(32)

MEMBERS = ("type", "time", "data")

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


class Digest:
    """A run's digest in the making: SHA-256 over the canonical JSON array of what `add` was given, in that order.

    Of each event `type`, `time` and `data` count, as the wire has them. `seq` and `engine_seq` do not: so the digest
    is known when the run's last row is written, in the same transaction, and stays true in another store. The result
    counts because the run's last event carries it. Feed it all durable events of the run, from `run.queued` to its end.
    """

    __slots__ = ("_hash", "_separator")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._separator = b"["

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in the next event of the run; members other than `MEMBERS` are not looked at.

        Raises KeyError when one of `MEMBERS` is missing, ValueError for data that is not JSON (NaN, a lone surrogate);
        the digest is then as it was before.
        """
        canonical = _canonical({member: event[member] for member in MEMBERS})
        self._hash.update(self._separator + canonical)
        self._separator = b","

    def hex(self) -> str:
        """The digest of the events so far, as 64 lower-case hex digits; more may be added afterwards."""
        closed = self._hash.copy()
        closed.update(b"[]" if self._separator == b"[" else b"]")
        return closed.hexdigest()


def run_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a whole run, as 64 lower-case hex digits: what `Digest` gives for its durable events, in order."""
    digest = Digest()
    for row in rows:
        digest.add(row)
    return digest.hex()


def _canonical(value: Any) -> bytes:
    try:
        return rfc8785.dumps(value)
    except rfc8785.IntegerDomainError:
        return rfc8785.dumps(_with_exact_integers(value))


def _with_exact_integers(value: Any) -> Any:
    """Integers that no double holds become strings, as RFC 8785, appendix D, has it."""
    if isinstance(value, Mapping):
        return {key: _with_exact_integers(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_exact_integers(item) for item in value]
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        return str(value)
    return value
