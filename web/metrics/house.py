"""What a house is like now, measured when it is asked for: mailboxes, engines, runs and requests by pool; the journal
and its readers for who sees the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from protocol.authority import Authority
from protocol.runs import RunStatus
from supervisor.summary import HouseSummary, PoolSummary
from web.metrics.engines import EngineCounts

__all__ = ["HouseFigures"]

_OPEN: Final = tuple(status.value for status in RunStatus if not status.ended)
_ENDINGS: Final = ("handled", "dead_lettered", "withdrawn")


class HouseFigures:
    """`summary`: of the house, whole; `counts`: of its engines. Who asks gets their part of both."""

    def __init__(self, summary: Callable[[], Awaitable[HouseSummary]], counts: EngineCounts) -> None:
        self._summary = summary
        self._counts = counts

    async def collect(self, authority: Authority) -> AsyncIterator[Metric]:
        """A source of metrics."""
        found = await self._summary()
        pools = {pool: one for pool, one in sorted(found.pools.items()) if authority.sees(pool)}
        whole = _journal(found) if authority.everywhere else ()
        for metric in (*_mail(pools), *_work(pools), *self._counts.collect(pools, found.pools), *whole):
            yield metric


def _mail(pools: dict[str, PoolSummary]) -> Iterable[Metric]:
    """The conservation law can be checked from these: accepted = ended + queued + in hand."""
    accepted = CounterMetricFamily("enginehouse_mailbox_accepted", "Messages that were accepted.", labels=("pool",))
    ended = CounterMetricFamily("enginehouse_mailbox_ended", "Messages that had their end.", labels=("pool", "how"))
    queued = GaugeMetricFamily("enginehouse_mailbox_queued", "Messages that wait.", labels=("pool",))
    in_hand = GaugeMetricFamily("enginehouse_mailbox_in_hand", "Messages that are being handled.", labels=("pool",))
    oldest = GaugeMetricFamily(
        "enginehouse_mailbox_oldest_age_seconds", "How long the oldest message waits.", labels=("pool",)
    )
    unbalanced = GaugeMetricFamily(
        "enginehouse_mailbox_unbalanced", "Mailboxes that break the conservation law: 0, or a bug.", labels=("pool",)
    )
    for pool, one in pools.items():
        accepted.add_metric((pool,), one.accepted)
        for how, count in zip(_ENDINGS, (one.handled, one.dead, one.withdrawn), strict=True):
            ended.add_metric((pool, how), count)
        queued.add_metric((pool,), one.queued)
        in_hand.add_metric((pool,), one.in_hand)
        oldest.add_metric((pool,), round(one.oldest_age_s, 3))
        unbalanced.add_metric((pool,), one.unbalanced)
    return accepted, ended, queued, in_hand, oldest, unbalanced


def _work(pools: dict[str, PoolSummary]) -> Iterable[Metric]:
    engines = GaugeMetricFamily(
        "enginehouse_engines", "Engines that are not disposed.", labels=("pool", "kind", "state")
    )
    runs = GaugeMetricFamily("enginehouse_runs", "Runs that have not ended.", labels=("pool", "status"))
    requests = GaugeMetricFamily("enginehouse_requests_pending", "Questions that wait for people.", labels=("pool",))
    programs = GaugeMetricFamily(
        "enginehouse_child_processes", "Programs that engines started and that run.", labels=("pool",)
    )
    for pool, one in pools.items():
        for (kind, state), count in sorted(one.engines.items()):
            engines.add_metric((pool, kind, state), count)
        for status in _OPEN:
            runs.add_metric((pool, status), one.runs[status])
        requests.add_metric((pool,), one.requests)
        programs.add_metric((pool,), one.programs)
    return engines, runs, requests, programs


def _journal(found: HouseSummary) -> Iterable[Metric]:
    store = found.store
    yield GaugeMetricFamily(
        "enginehouse_journal_queued_writes", "Writes that are not durable yet.", store.queued_writes
    )
    yield GaugeMetricFamily("enginehouse_journal_queued_bytes", "Their size.", store.queued_bytes)
    yield GaugeMetricFamily(
        "enginehouse_journal_last_commit_seconds", "How long the last commit took.", store.last_commit_s
    )
    yield CounterMetricFamily("enginehouse_journal_commits", "Commits since the start.", store.commits)
    yield CounterMetricFamily("enginehouse_journal_rows", "Rows since the start.", store.rows)
    yield GaugeMetricFamily("enginehouse_journal_position", "The seq of the last row that was shown.", found.folded)
    yield GaugeMetricFamily("enginehouse_subscribers", "Readers of events.", found.readers)
    yield CounterMetricFamily(
        "enginehouse_late_answers", "Answers that came after their asker had gone.", found.late_answers
    )
