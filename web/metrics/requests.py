"""What is counted of each request: rate, errors, duration, by route.

Labels are bounded whatever is asked for: routes are templates, what is served nowhere is one route, methods that we do
not know are one method, and slugs come from the table of problems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from protocol.authority import Authority
from web.metrics.histogram import Histogram
from web.problems import PROBLEMS

__all__ = ["OTHER", "UNMATCHED", "Requests"]

UNMATCHED: Final = "unmatched"
OTHER: Final = "_OTHER"
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_AUTH: Final = ("unauthenticated", "token-expired")


class Requests:
    """`in_flight`: requests whose answer is not complete, streams among them."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._durations: dict[tuple[str, str], Histogram] = {}
        self._refusals: Counter[str] = Counter()

    def answered(self, method: str, route: str, status: int | None, begun_s: float | None, slug: str | None) -> None:
        """Count one. `method` and `route` are from bounded sets; `status`: None when the client went
        away before there was one; `begun_s`: after how many seconds the answer began; `slug`: of the problem that it
        was.
        """
        self._answers[method, route, "none" if status is None else f"{status // 100}xx"] += 1
        if begun_s is not None:
            durations = self._durations.get((method, route))
            if durations is None:
                durations = self._durations[method, route] = Histogram(_BOUNDS)
            durations.add(begun_s)
        if slug is not None:
            self._refusals[slug if slug in PROBLEMS else OTHER] += 1

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics; nothing for who is bound to pools, since no request is a pool's."""
        if not authority.everywhere:
            return
        answers = CounterMetricFamily(
            "enginehouse_http_requests",
            "Requests that were answered, by the first digit of the status (none: the client went away).",
            labels=("method", "route", "status"),
        )
        for labels, count in self._answers.items():
            answers.add_metric(labels, count)
        yield answers
        durations = HistogramMetricFamily(
            "enginehouse_http_request_duration_seconds",
            "From a request to the beginning of its answer.",
            labels=("method", "route"),
        )
        for names, histogram in self._durations.items():
            durations.add_metric(names, histogram.buckets(), histogram.sum)
        yield durations
        yield GaugeMetricFamily(
            "enginehouse_http_requests_in_flight", "Requests in hand, open streams among them.", self.in_flight
        )
        refusals = CounterMetricFamily("enginehouse_http_refusals", "Problems that were answered.", labels=("slug",))
        for slug, count in self._refusals.items():
            refusals.add_metric((slug,), count)
        yield refusals
        auth = CounterMetricFamily(
            "enginehouse_auth_failures", "Requests without credentials that are good.", labels=("slug",)
        )
        for slug in _AUTH:
            auth.add_metric((slug,), self._refusals[slug])
        yield auth
