"""What a webhook is: what a client sends, what it is shown, and what is stored. No secret is in any of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from protocol.authority import Scope
from protocol.specs import STRICT

__all__ = [
    "CreatedWebhook",
    "DeadDelivery",
    "Delivery",
    "NewWebhook",
    "PatchWebhook",
    "RotateSecret",
    "Rotated",
    "StoredWebhook",
    "WebhookInfo",
    "WebhookState",
]

EventType = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Description = Annotated[str, Field(max_length=1000)]
Types = Annotated[list[EventType], Field(max_length=64)]
Names = Annotated[list[Name], Field(max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook:
    """`POST /webhooks`. Empty filters match everything that its owner may see; `types`: exact types or first words."""

    __pydantic_config__ = STRICT
    url: Url
    description: Description = ""
    types: Types = field(default_factory=list)
    pools: Names = field(default_factory=list)
    kinds: Names = field(default_factory=list)
    engine: Name | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchWebhook:
    """`PATCH /webhooks/{id}`: only the members that are sent change. Whoever changes a webhook owns it from then on."""

    __pydantic_config__ = STRICT
    url: Url | None = None
    description: Description | None = None
    types: Types | None = None
    pools: Names | None = None
    kinds: Names | None = None
    engine: Name | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateSecret:
    """`POST /webhooks/{id}/rotate`. For `overlap_s` everything is signed with both secrets."""

    __pydantic_config__ = STRICT
    overlap_s: Annotated[float, Field(ge=0, le=30 * 86400)] = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookInfo:
    """A webhook as it is shown. `owner`: whose authority decides what it gets; `reason`: why it is disabled, when
    nobody asked for that; `cursor`: the event id behind which it goes on; `failing_since`: of the failures after the
    last success; `old_secret_until`: until when the secret before the last rotation signs too.
    """

    id: str
    url: str
    description: str
    types: list[str]
    pools: list[str]
    kinds: list[str]
    engine: str | None
    state: Literal["active", "disabled"]
    reason: str | None
    owner: str | None
    created_at: str
    old_secret_until: str | None
    cursor: str
    delivered: int
    dead_letters: int
    last_delivered_at: str | None
    failing_since: str | None
    last_error: str | None
    last_gap: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedWebhook(WebhookInfo):
    """The answer of `POST /webhooks`. `secret` is shown this once."""

    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The answer of `POST /webhooks/{id}/rotate`. `secret` is shown this once."""

    secret: str
    old_secret_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One attempt. `status`: the receiver's answer (None: there was none); `error`: what was wrong, None for a success;
    `attempt` counts those of one event from 1.
    """

    event_id: str
    type: str
    at: str
    attempt: int
    ok: bool
    status: int | None
    error: str | None
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDelivery:
    """An event that a receiver did not take, after all attempts."""

    event_id: str
    type: str
    at: str
    attempts: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWebhook:
    """What people decide about a webhook. `scopes`, `pools`: of its owner (`pools` None: all), beside the `filter`;
    `version` of the secret counts from 1; the one before signs until `old_until` (Unix seconds).
    """

    id: str
    filter: NewWebhook
    state: Literal["active", "disabled"]
    reason: str | None
    owner: str | None
    scopes: list[Scope]
    pools: list[str] | None
    created_at: str
    version: int = 1
    old_until: float | None = None


@dataclass(slots=True, kw_only=True)
class WebhookState:
    """What delivering changes: its own document, so that neither overwrites the other. `attempts`: at the event behind
    the cursor.
    """

    cursor: str
    attempts: int = 0
    delivered: int = 0
    last_delivered_at: str | None = None
    failing_since: str | None = None
    last_error: str | None = None
    last_gap: dict[str, Any] | None = None
