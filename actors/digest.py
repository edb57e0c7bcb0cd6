"""A run's digest: the SHA-256 of an RFC 8785 (JCS) canonical JSON array of its durable events.

Anybody can recompute it from the run's event log with any JCS library. It says what happened, not where it is written:
numbers that a store assigns stay out, and so does the digest that the last event carries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from actors.canonical import canonical

__all__ = ["MEMBERS", "Digest", "run_digest"]

MEMBERS = ("type", "time", "data")


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
        self._hash.update(self._separator + canonical({member: event[member] for member in MEMBERS}))
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
