"""Webhooks: events, sent to whoever asked for them."""

from __future__ import annotations

from protocol.authority import Authority
from protocol.errors import EventIdExpired, IdempotencyInFlight, NotFound, QuotaExceeded, ValidationFailed
from protocol.wire import Page
from web.auth import Scope
from web.call import Call
from web.paging import page_of
from web.params import Cursor, Limit
from web.reply import Reply, created, nothing
from web.route import Section
from web.webhooks import NewWebhook, PatchWebhook, WebhookInfo, Webhooks
from web.webhooks.values import CreatedWebhook, DeadDelivery, Delivery, Rotated, RotateSecret

section = Section("webhooks")


def _asked(call: Call) -> tuple[Webhooks, Authority]:
    """The webhooks of this house, and who asks. Raises NotFound where none are kept."""
    if call.services.webhooks is None:
        raise NotFound("This house keeps no webhooks.")
    assert call.principal is not None
    return call.services.webhooks, call.principal.authority


@section.get("/webhooks", Scope.READ, NotFound)
async def list_webhooks(call: Call, *, limit: Limit = 100, cursor: Cursor | None = None) -> Page[WebhookInfo]:
    """Webhooks that reach no pool which is not seen, oldest first; never their secrets."""
    webhooks, authority = _asked(call)
    found = webhooks.infos(authority)
    return page_of(found, lambda info: f"{info.created_at} {info.id}", limit=limit, cursor=cursor)


@section.post(
    "/webhooks",
    Scope.OPERATE,
    NotFound,
    ValidationFailed,
    QuotaExceeded,
    IdempotencyInFlight,
    answers=(201,),
    once=True,
)
async def create_webhook(call: Call, body: NewWebhook) -> Reply[CreatedWebhook]:
    """Create a webhook; its secret is shown in this answer and never again.

    Needs scope `read` too. It gets what its owner may see, from now on, for as long as the owner's credentials stand.
    """
    webhooks, authority = _asked(call)
    made = await webhooks.create(body, call.caller, authority=authority)
    return created(made, f"/api/v1/webhooks/{made.id}")


@section.get("/webhooks/{webhook}", Scope.READ, NotFound)
async def get_webhook(call: Call, webhook: str) -> WebhookInfo:
    """One webhook, where it is, and how it goes."""
    webhooks, authority = _asked(call)
    return webhooks.get(webhook, authority)


@section.patch("/webhooks/{webhook}", Scope.OPERATE, NotFound, ValidationFailed)
async def patch_webhook(call: Call, webhook: str, body: PatchWebhook) -> WebhookInfo:
    """Change the members that are sent; it goes on where it was. Whoever changes a webhook owns it from then on.

    Needs scope `read` too.
    """
    webhooks, authority = _asked(call)
    return await webhooks.patch(webhook, body, frozenset(call.json), call.caller, authority=authority)


@section.delete("/webhooks/{webhook}", Scope.OPERATE, NotFound, answers=(204,))
async def delete_webhook(call: Call, webhook: str) -> Reply[None]:
    """Delete a webhook and its dead letters."""
    webhooks, authority = _asked(call)
    await webhooks.delete(webhook, call.caller, authority=authority)
    return nothing()


@section.post("/webhooks/{webhook}/rotate", Scope.OPERATE, NotFound, IdempotencyInFlight, once=True)
async def rotate_webhook(call: Call, webhook: str, body: RotateSecret = RotateSecret()) -> Rotated:  # noqa: B008
    """Make a new secret, shown in this answer and never again; the old one signs too for `overlap_s`."""
    webhooks, authority = _asked(call)
    return await webhooks.rotate(webhook, body.overlap_s, call.caller, authority=authority)


@section.post("/webhooks/{webhook}/test", Scope.OPERATE, NotFound, IdempotencyInFlight, once=True)
async def test_webhook(call: Call, webhook: str) -> Delivery:
    """Send a message of type `enginehouse.webhook.test`, once, and tell what the receiver answered."""
    webhooks, authority = _asked(call)
    return await webhooks.test(webhook, authority)


@section.get("/webhooks/{webhook}/deliveries", Scope.READ, NotFound)
async def list_deliveries(call: Call, webhook: str) -> Page[Delivery]:
    """The latest attempts since the daemon began, newest first, at most 100."""
    webhooks, authority = _asked(call)
    return Page(items=webhooks.deliveries(webhook, authority))


@section.get("/webhooks/{webhook}/dead-letters", Scope.READ, NotFound)
async def list_dead_deliveries(call: Call, webhook: str) -> Page[DeadDelivery]:
    """Events that the receiver did not take, newest first, at most 200."""
    webhooks, authority = _asked(call)
    return Page(items=webhooks.dead_letters(webhook, authority))


@section.post(
    "/webhooks/{webhook}/dead-letters/{event}/redeliver",
    Scope.OPERATE,
    NotFound,
    EventIdExpired,
    IdempotencyInFlight,
    once=True,
)
async def redeliver_event(call: Call, webhook: str, event: str) -> Delivery:
    """Send an event that was given up once more; taken, it is no dead letter any more."""
    webhooks, authority = _asked(call)
    return await webhooks.redeliver(webhook, event, call.caller, authority=authority)


@section.delete("/webhooks/{webhook}/dead-letters/{event}", Scope.OPERATE, NotFound, answers=(204,))
async def discard_event(call: Call, webhook: str, event: str) -> Reply[None]:
    """Forget an event that was given up."""
    webhooks, authority = _asked(call)
    await webhooks.discard(webhook, event, call.caller, authority=authority)
    return nothing()
