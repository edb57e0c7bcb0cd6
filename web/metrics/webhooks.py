"""Webhooks, for who sees the whole house: one of them may be sent the events of any pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from prometheus_client.core import GaugeMetricFamily, Metric

from protocol.authority import Authority
from web.webhooks import WebhookStatistics

__all__ = ["WebhookFigures"]


class WebhookFigures:
    """What they have delivered is a gauge, no counter: it outlives the daemon, and a webhook that is deleted takes its
    part along.
    """

    def __init__(self, statistics: Callable[[], WebhookStatistics]) -> None:
        self._statistics = statistics

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics."""
        if not authority.everywhere:
            return
        found = self._statistics()
        webhooks = GaugeMetricFamily("enginehouse_webhooks", "Webhooks that there are.", labels=("state",))
        webhooks.add_metric(("delivering",), found.active - found.failing)
        webhooks.add_metric(("failing",), found.failing)
        webhooks.add_metric(("disabled",), found.hooks - found.active)
        yield webhooks
        yield GaugeMetricFamily(
            "enginehouse_webhook_delivered", "Messages that receivers took, over their lives.", found.delivered
        )
        yield GaugeMetricFamily(
            "enginehouse_webhook_dead_letters", "Messages that were given up and are kept.", found.dead_letters
        )
