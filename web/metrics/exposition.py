"""The metrics as somebody gets to see them: every source is asked for their part, and the parts become one text.

What is known by pool is shown for the pools that one sees. What is of the whole house is for who sees all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeAlias

import trio
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from protocol.authority import Authority
from web.metrics.process import process_metrics

__all__ = ["Metrics", "Source"]

Source: TypeAlias = Callable[[Authority], AsyncIterator[Metric]]
"""What of some figures this authority may see, measured now. It lets others run when there is much to measure."""

_OPENMETRICS: Final = "application/openmetrics-text"


class Metrics:
    """`public`: they are shown, whole, to whoever asks."""

    def __init__(self, *sources: Source, public: bool = False) -> None:
        self._sources = list(sources)
        self.public = public

    def include(self, source: Source) -> None:
        """Ask this one too. Names of metrics must differ from all others."""
        self._sources.append(source)

    async def text(self, authority: Authority, accept: str) -> tuple[bytes, str]:
        """All that `authority` may see, and its content type: OpenMetrics 1.0 for who accepts it by name, else
        Prometheus' text format 0.0.4.
        """
        families = [family for source in self._sources async for family in source(authority)]
        # In a thread: with many pools the text is long, and the figures of the process are files.
        return await trio.to_thread.run_sync(_written, families, authority.everywhere, accept)


class _Registry(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _written(families: list[Metric], whole: bool, accept: str) -> tuple[bytes, str]:
    # A registry of what this one may see, for this answer; the library's global one is never touched.
    registry = _Registry([*families, *(process_metrics() if whole else ())])
    if _accepts_openmetrics(accept):
        text: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # its other format alone is typed
        return text, CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _accepts_openmetrics(accept: str) -> bool:
    for part in accept.split(","):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        if media_type == _OPENMETRICS:
            return not any(word.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for word in parameters)
    return False
