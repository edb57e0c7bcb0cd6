"""Metrics for Prometheus: counted where things happen, measured when somebody asks, shown as far as they may see."""

from web.metrics.engines import EngineCounts
from web.metrics.exposition import Metrics, Source
from web.metrics.house import HouseFigures
from web.metrics.process import LoopLag
from web.metrics.requests import OTHER, UNMATCHED, Requests

__all__ = ["OTHER", "UNMATCHED", "EngineCounts", "HouseFigures", "LoopLag", "Metrics", "Requests", "Source"]
