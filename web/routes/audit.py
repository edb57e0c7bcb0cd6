"""The audit trail, read: pages for people, all of it as JSON lines for archives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from protocol.audit import AuditFilter, AuditInfo, Outcome
from protocol.edge import dump
from protocol.errors import NotFound
from protocol.times import epoch_ms, rfc3339
from protocol.wire import Page
from web.asgi import Send
from web.audit import AuditJournal
from web.auth import Scope
from web.call import Call
from web.params import Cursor, Limit
from web.route import Section

section = Section("audit")

Text = Annotated[str, Field(min_length=1, max_length=256)]


_SPELLED: Final = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,3})?Z$", re.ASCII)


def _real(time: str) -> str:
    if not _SPELLED.fullmatch(time):
        raise ValueError("Write a time in RFC 3339, UTC, such as 2026-01-31T12:00:00Z")
    epoch_ms(time)  # ValueError for a 60th month
    return time


Time = Annotated[
    str,
    Field(description="RFC 3339, UTC.", json_schema_extra={"format": "date-time", "pattern": _SPELLED.pattern}),
    AfterValidator(_real),
]
_PAGE = 1000
_JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Every row that is wanted, newest first, one JSON object in a line."""

    audit: AuditJournal
    wanted: AuditFilter

    async def __call__(self, send: Send, *, head: bool) -> None:
        """Send all of it. Cancelled: nothing stays open."""
        headers = [(b"content-type", _JSON_LINES.encode("ascii"))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        cursor = None
        while not head:
            page = await self.audit.audit_page(self.wanted, limit=_PAGE, cursor=cursor)
            lines = b"".join(dump(item) + b"\n" for item in page.items)
            await send({"type": "http.response.body", "body": lines, "more_body": True})
            cursor = page.next_cursor
            if cursor is None:
                break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@section.get("/admin/audit", Scope.ADMIN, NotFound, raw=True, text=_JSON_LINES)
async def list_audit(
    call: Call,
    *,
    principal: Text | None = None,
    outcome: Outcome | None = None,
    operation: Text | None = None,
    engine: Text | None = None,
    pool: Text | None = None,
    address: Text | None = None,
    since: Time | None = None,
    until: Time | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Export | Page[AuditInfo]:
    """What was asked of this house and what became of it, newest first. With `Accept: application/x-ndjson` all of it,
    a line each.
    """
    audit = call.services.audit
    if audit is None:
        raise NotFound("This server keeps no audit trail.")
    wanted = AuditFilter(
        principal=principal,
        outcome=outcome,
        operation=operation,
        engine=engine,
        pool=pool,
        address=address,
        since=since and rfc3339(epoch_ms(since)),
        until=until and rfc3339(epoch_ms(until)),
    )
    if _wants_lines(call):
        return Export(audit=audit, wanted=wanted)
    return await audit.audit_page(wanted, limit=limit, cursor=cursor)


def _wants_lines(call: Call) -> bool:
    accept: Any = parse_accept_header(call.header(b"accept"), MIMEAccept)
    return bool(accept.best_match(["application/json", _JSON_LINES]) == _JSON_LINES)
