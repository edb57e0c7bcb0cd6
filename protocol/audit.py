"""Audit rows as they are read: what became of each request that would change something.

The rows are written by `supervisor/audit.py`; `docs/security.md` says what each member means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from protocol.events import Row

__all__ = ["EVERYTHING", "AuditFilter", "AuditInfo", "Outcome"]


class Outcome(StrEnum):
    """What became of a request. `accepted`: its effect is in the same write, or was made durable there."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed"  # the first request under its idempotency key had the effect
    REFUSED = "refused"
    ABANDONED = "abandoned"  # the client went away before anything was decided


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditInfo:
    """One row of the audit trail. `operation`: the route's; `type`: the command's; `status` and `slug`: of a refusal
    (`refresh-token-reused`: of the login that it ended); `count`: how many requests a row stands for that counts
    refusals of strangers; `body`: only at level `request`.
    """

    seq: int
    time: str
    outcome: str
    principal: str | None = None
    address: str | None = None
    request_id: str | None = None
    method: str | None = None
    path: str | None = None
    operation: str | None = None
    type: str | None = None
    engine_id: str | None = None
    pool: str | None = None
    command_id: str | None = None
    status: int | None = None
    slug: str | None = None
    count: int = 1
    digest: str | None = None
    body: Any = None

    @classmethod
    def of(cls, row: Row) -> AuditInfo:
        said = {name: value for name, value in row.data.items() if name in cls.__slots__}
        own = {"seq": row.seq, "time": row.time, "principal": row.principal, "command_id": row.command_id}
        return cls(**said | own)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which audit rows are shown. `since`, `until`: RFC 3339, the first included and the last not; the others must be
    equal to what the row says of it. None: whatever it is.
    """

    principal: str | None = None
    outcome: str | None = None
    operation: str | None = None
    engine: str | None = None
    pool: str | None = None
    address: str | None = None
    since: str | None = None
    until: str | None = None

    def shows(self, row: Row) -> bool:
        said = row.data
        return (
            self.principal in (None, row.principal)
            and self.outcome in (None, said.get("outcome"))
            and self.operation in (None, said.get("operation"))
            and self.engine in (None, said.get("engine_id"))
            and self.pool in (None, said.get("pool"))
            and self.address in (None, said.get("address"))
            and (self.since is None or row.time >= self.since)
            and (self.until is None or row.time < self.until)
        )


EVERYTHING: Final = AuditFilter()
