"""Metrics for Prometheus: counted where things happen, measured when somebody asks, shown as far as they may see."""

from web.metrics.engines import EngineCounts
from web.metrics.exposition import Metrics, Source
from web.metrics.house import HouseFigures
from web.metrics.process import LoopLag
from web.metrics.requests import OTHER, UNMATCHED, Requests
from web.metrics.schedules import ScheduleFigures
from web.metrics.webhooks import WebhookFigures

__all__ = [
    "OTHER", "UNMATCHED", "EngineCounts", "HouseFigures", "LoopLag", "Metrics", "Requests", "ScheduleFigures", "Source",
    "WebhookFigures",
]  # fmt: skip
