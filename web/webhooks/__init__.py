"""Outbound webhooks: every event that somebody asked for, signed, in order, at least once."""

from web.webhooks.key_file import webhook_key
from web.webhooks.sender import Attempt, HttpSender, Sender, open_sender
from web.webhooks.targets import Targets, resolver
from web.webhooks.values import NewWebhook, PatchWebhook, WebhookInfo
from web.webhooks.webhooks import MAX_WEBHOOKS, Webhooks, WebhookStatistics, open_webhooks

__all__ = [
    "MAX_WEBHOOKS",
    "Attempt",
    "HttpSender",
    "NewWebhook",
    "PatchWebhook",
    "Sender",
    "Targets",
    "WebhookInfo",
    "WebhookStatistics",
    "Webhooks",
    "open_sender",
    "open_webhooks",
    "resolver",
    "webhook_key",
]
