"""Webhooks: events, sent to whoever asked for them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from web.cli import show as shown
from web.cli.asked import Asked, command
from web.cli.exits import FAILED
from web.cli.pages import every

__all__ = ["app"]

app = typer.Typer(
    help="Webhooks: events, signed and sent to a URL of yours.", no_args_is_help=True, rich_markup_mode=None
)

Webhook = Annotated[str, typer.Argument(help="The webhook's id.", show_default=False)]
Event = Annotated[str, typer.Argument(help="The event's id.", show_default=False)]


@command(app, "list")
def list_webhooks(asked: Asked) -> None:
    """List webhooks, never their secrets."""
    found = asked.remote(lambda house: every(house, "webhooks"))
    columns = ("id", "url", "types", "pools", "state", "delivered", "dead_letters", "failing_since", "last_error")
    asked.table(found, *columns, empty="There are no webhooks.")


@command(app)
def create(
    asked: Asked,
    url: Annotated[str, typer.Argument(help="Where events are sent.", show_default=False)],
    type: Annotated[list[str] | None, typer.Option(help="An event type or its first words; repeatable.")] = None,
    pool: Annotated[list[str] | None, typer.Option(help="Of this pool; repeatable.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Of engines of this kind; repeatable.")] = None,
    engine: Annotated[str | None, typer.Option(help="Of this engine alone.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
) -> None:
    """Create a webhook; print its id, and its secret this once."""
    body = {
        "url": url, "description": description, "types": type or [], "pools": pool or [], "kinds": kind or [],
        "engine": engine,
    }  # fmt: skip
    made: Any = asked.remote(lambda house: house.call("POST", "webhooks", body=body))
    if asked.json:
        shown.print_json(made)
    else:
        shown.record(made, "id", "secret")


@command(app)
def show(asked: Asked, webhook: Webhook) -> None:
    """Show a webhook, where it is, and how it goes."""
    asked.record(asked.remote(lambda house: house.call("GET", "webhooks", webhook)))


@command(app)
def enable(asked: Asked, webhook: Webhook) -> None:
    """Enable a webhook where it was; you own it then."""
    made: Any = asked.remote(lambda house: house.call("PATCH", "webhooks", webhook, body={"enabled": True}))
    asked.done(made, f"{webhook} is enabled")


@command(app)
def disable(asked: Asked, webhook: Webhook) -> None:
    """Disable a webhook; its place in the events is kept."""
    made: Any = asked.remote(lambda house: house.call("PATCH", "webhooks", webhook, body={"enabled": False}))
    asked.done(made, f"{webhook} is disabled")


@command(app)
def test(asked: Asked, webhook: Webhook) -> None:
    """Send a test message, once. Exit code 1 when the receiver does not take it."""
    _told(asked, asked.remote(lambda house: house.call("POST", "webhooks", webhook, "test")))


@command(app)
def rotate(
    asked: Asked,
    webhook: Webhook,
    overlap: Annotated[float, typer.Option(help="Seconds for which the old secret signs too.")] = 86400.0,
) -> None:
    """Make a new secret and print it: this once."""
    body = {"overlap_s": overlap}
    made: Any = asked.remote(lambda house: house.call("POST", "webhooks", webhook, "rotate", body=body))
    asked.done(made, made["secret"])


@command(app)
def deliveries(asked: Asked, webhook: Webhook) -> None:
    """List the latest attempts, newest first."""
    found: Any = asked.remote(lambda house: house.call("GET", "webhooks", webhook, "deliveries"))
    columns = ("event_id", "type", "at", "attempt", "ok", "status", "took_s", "error")
    asked.table(found["items"], *columns, empty="Nothing was sent since the daemon began.")


@command(app, "dead-letters")
def dead_letters(asked: Asked, webhook: Webhook) -> None:
    """List events that the receiver did not take."""
    found: Any = asked.remote(lambda house: house.call("GET", "webhooks", webhook, "dead-letters"))
    asked.table(found["items"], "event_id", "type", "at", "attempts", "error", empty="There are no dead letters.")


@command(app)
def redeliver(asked: Asked, webhook: Webhook, event: Event) -> None:
    """Send an event that was given up once more. Exit code 1 when the receiver does not take it."""
    parts = ("webhooks", webhook, "dead-letters", event, "redeliver")
    _told(asked, asked.remote(lambda house: house.call("POST", *parts)))


@command(app)
def discard(asked: Asked, webhook: Webhook, event: Event) -> None:
    """Forget an event that was given up."""
    asked.remote(lambda house: house.call("DELETE", "webhooks", webhook, "dead-letters", event))
    asked.done(None, f"{event} is forgotten")


@command(app)
def delete(asked: Asked, webhook: Webhook) -> None:
    """Delete a webhook and its dead letters."""
    asked.remote(lambda house: house.call("DELETE", "webhooks", webhook))
    asked.done(None, f"{webhook} is deleted")


def _told(asked: Asked, delivery: Any) -> None:
    """What came of one attempt."""
    asked.done(delivery, delivery["error"] or f"The receiver answered {delivery['status']}.")
    if not delivery["ok"]:
        raise typer.Exit(FAILED)
