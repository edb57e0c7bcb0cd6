"""One webhook in memory, and the one way in which it changes: what people decide, and what delivering does to it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import trio

from protocol.authority import Authority
from protocol.edge import as_json
from protocol.times import rfc3339
from supervisor.behalf import authority_from
from supervisor.house import Filter
from web.webhooks.values import DeadDelivery, Delivery, StoredWebhook, WebhookInfo, WebhookState

__all__ = ["Hook"]

RECENT: Final = 100
"""How many attempts are remembered, until the house ends."""


@dataclass(slots=True, eq=False)
class Hook:
    """`dead`: dead deliveries by event id, oldest first; `scope`: of the task that delivers, while one does."""

    stored: StoredWebhook
    state: WebhookState
    dead: dict[str, DeadDelivery] = field(default_factory=dict)
    recent: deque[Delivery] = field(default_factory=lambda: deque(maxlen=RECENT))
    scope: trio.CancelScope | None = None

    @property
    def id(self) -> str:
        return self.stored.id

    @property
    def authority(self) -> Authority:
        """Of its owner, when they last decided about it."""
        return authority_from(self.stored.scopes, self.stored.pools)

    @property
    def filter(self) -> Filter:
        """What it asks the house for, with the eyes of its owner."""
        wanted = self.stored.filter
        return Filter(types=tuple(wanted.types), pools=tuple(wanted.pools), kinds=tuple(wanted.kinds))

    def versions(self, now: float) -> list[int]:
        """The versions of its secret that sign at `now`, the newest first."""
        version, old_until = self.stored.version, self.stored.old_until
        return [version, version - 1] if old_until is not None and now < old_until else [version]

    def info(self) -> WebhookInfo:
        stored, wanted, state = self.stored, self.stored.filter, self.state
        return WebhookInfo(
            id=stored.id, url=wanted.url, description=wanted.description, types=wanted.types, pools=wanted.pools,
            kinds=wanted.kinds, engine=wanted.engine, state=stored.state, reason=stored.reason, owner=stored.owner,
            created_at=stored.created_at,
            old_secret_until=None if stored.old_until is None else rfc3339(round(stored.old_until * 1000)),
            cursor=state.cursor, delivered=state.delivered, dead_letters=len(self.dead),
            last_delivered_at=state.last_delivered_at, failing_since=state.failing_since,
            last_error=state.last_error, last_gap=state.last_gap,
        )  # fmt: skip

    def document(self) -> object:
        return as_json(self.stored)
