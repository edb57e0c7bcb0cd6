"""Every error the house can answer with: one tree, one slug each.

    EnginehouseError
    +- BadInput              the caller sent something that cannot be meant      (never retry unchanged)
    |  +- ValidationFailed, UnsupportedCommand, UnknownKind, IdempotencyMismatch, InvalidEventId, InvalidJson
    +- Denied                the caller may not                                   (retry with other credentials)
    |  +- Unauthenticated, InsufficientScope
    +- Missing               there is no such thing, or no longer                 (never retry)
    |  +- NotFound, UnknownSlice, EngineDisposed, EventIdExpired
    +- Conflict              legal in another state; nothing was changed          (retry after the state changed)
    |  +- InvalidState, EngineExists, EngineBusy, RunConflict, AlreadyDecided, ApprovalStale, NothingPending,
    |     AmbiguousRequest, RequestClosed, PoolBusy, IdempotencyInFlight, RangeNotSatisfiable
    +- Busy                  a limit was reached; nothing was changed             (retry after `retry_after_s`)
    |  +- MailboxFull, QuotaExceeded, RateLimited, Draining, Overloaded
    +- Unavailable           the house cannot keep its promises now               (retry elsewhere or later)
       +- StoreUnavailable, StorageFull, ShuttingDown

A slug is the stable name of a problem; how it looks over HTTP is one table in `web/problems.py`. `detail` is a sentence
that tells the caller what to do; `extra` are the members which that slug promises (`state`, `allowed`, ...).
"""

from __future__ import annotations

from typing import ClassVar


class EnginehouseError(Exception):
    """Base of all errors the house answers with. `detail`: a sentence for the caller; `extra`: JSON values."""

    slug: ClassVar[str] = "internal"

    def __init__(self, detail: str, /, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra: dict[str, object] = extra

    @property
    def problem(self) -> dict[str, str]:
        """{slug, detail}: how records and results keep it."""
        return {"slug": self.slug, "detail": self.detail}


class BadInput(EnginehouseError):
    """What was sent cannot be meant; sending it again unchanged cannot help."""


class ValidationFailed(BadInput):
    """`errors`: [{loc, msg, type}]."""

    slug = "validation-failed"


class UnsupportedCommand(BadInput):
    slug = "unsupported-command"


class UnknownKind(BadInput):
    slug = "unknown-kind"


class IdempotencyMismatch(BadInput):
    slug = "idempotency-mismatch"


class InvalidEventId(BadInput):
    slug = "invalid-event-id"


class InvalidJson(BadInput):
    slug = "invalid-json"


class Denied(EnginehouseError):
    """The caller may not do this."""


class Unauthenticated(Denied):
    slug = "unauthenticated"


class InsufficientScope(Denied):
    slug = "insufficient-scope"


class Missing(EnginehouseError):
    """There is no such thing, or no longer."""


class NotFound(Missing):
    slug = "not-found"


class UnknownSlice(Missing):
    slug = "unknown-slice"


class EngineDisposed(Missing):
    slug = "engine-disposed"


class EventIdExpired(Missing):
    """`oldest`, `latest`: event ids that are still there."""

    slug = "event-id-expired"


class Conflict(EnginehouseError):
    """Legal in another state; nothing was changed."""


class InvalidState(Conflict):
    """`state`, `allowed`: the engine's state and the commands it takes there."""

    slug = "invalid-state"


class EngineExists(Conflict):
    slug = "engine-exists"


class EngineBusy(Conflict):
    slug = "engine-busy"


class RunConflict(Conflict):
    """`active_run`, `events_url`."""

    slug = "run-conflict"


class AlreadyDecided(Conflict):
    """`decision`: the one that won."""

    slug = "already-decided"


class ApprovalStale(Conflict):
    """`digest`: what is being asked now."""

    slug = "approval-stale"


class NothingPending(Conflict):
    slug = "nothing-pending"


class AmbiguousRequest(Conflict):
    """`pending`: ids to choose from."""

    slug = "ambiguous-request"


class RequestClosed(Conflict):
    slug = "request-closed"


class PoolBusy(Conflict):
    slug = "pool-busy"


class IdempotencyInFlight(Conflict):
    slug = "idempotency-in-flight"


class RangeNotSatisfiable(Conflict):
    slug = "range-not-satisfiable"


class Busy(EnginehouseError):
    """A limit was reached; nothing was changed. `retry_after_s` says when to try again."""


class MailboxFull(Busy):
    slug = "mailbox-full"


class QuotaExceeded(Busy):
    slug = "quota-exceeded"


class RateLimited(Busy):
    slug = "rate-limited"


class Draining(Busy):
    slug = "draining"


class Overloaded(Busy):
    slug = "overloaded"


class Unavailable(EnginehouseError):
    """The house cannot keep its promises now."""


class StoreUnavailable(Unavailable):
    slug = "store-unavailable"


class StorageFull(StoreUnavailable):
    slug = "storage-full"


class ShuttingDown(Unavailable):
    slug = "shutting-down"
