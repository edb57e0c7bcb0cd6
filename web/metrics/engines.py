"""What is counted of engines and runs as their rows become durable: ends, durations, crashes, dead letters, by pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from protocol.events import RUN_ENDS, Row
from protocol.times import epoch_ms
from web.metrics.histogram import Histogram

__all__ = ["EngineCounts"]

_BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)

_ROWS: Final = {
    "engine.crashed": ("crashed", "Incarnations that crashed and are to be started again."),
    "engine.failed": ("failed", "Engines that were given up: they crashed too often, or could not start."),
    "engine.stalled": ("stalled", "Runs that made no progress for stall_s."),
    "dead_letter.added": ("dead", "Messages that nobody will handle."),
}


class EngineCounts:
    """Counts since this start of the daemon."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._ends: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, Histogram] = {}
        self._started: dict[str, str] = {}

    def row(self, row: Row) -> None:
        """One row of an engine."""
        if row.type == "run.started":
            self._started[row.run_id or ""] = row.time
        elif row.type in RUN_ENDS:
            self._ends[row.pool, RUN_ENDS[row.type]] += 1
            started = self._started.pop(row.run_id or "", None)
            if started is not None:
                if row.pool not in self._durations:
                    self._durations[row.pool] = Histogram(_BOUNDS)
                self._durations[row.pool].add(max(epoch_ms(row.time) - epoch_ms(started), 0) / 1000)
        elif row.type == "run.interrupted":
            self._started.pop(row.run_id or "", None)
        elif row.type == "engine.starting":
            self._counts["restarted", row.pool] += row.data["cause"] == "backoff"
        elif row.type in _ROWS and row.data.get("stalled", True):
            self._counts[_ROWS[row.type][0], row.pool] += 1

    def collect(self, pools: Collection[str], here: Collection[str]) -> Iterable[Metric]:
        """The metrics of `pools`. Of pools that are not `here` any more nothing is kept."""
        self._forget(here)
        ends = CounterMetricFamily("enginehouse_runs_ended", "Runs that ended, by how.", labels=("pool", "outcome"))
        durations = HistogramMetricFamily(
            "enginehouse_run_duration_seconds", "From a run's last start to its end.", labels=("pool",)
        )
        for pool in pools:
            for outcome in RUN_ENDS.values():
                ends.add_metric((pool, outcome), self._ends[pool, outcome])
            if pool in self._durations:
                durations.add_metric((pool,), self._durations[pool].buckets(), self._durations[pool].sum)
        yield ends
        yield durations
        for what, name, text in (
            ("crashed", "enginehouse_engine_crashes", _ROWS["engine.crashed"][1]),
            ("restarted", "enginehouse_engine_restarts", "Incarnations that were started again after a crash."),
            ("failed", "enginehouse_engine_failures", _ROWS["engine.failed"][1]),
            ("stalled", "enginehouse_runs_stalled", _ROWS["engine.stalled"][1]),
            ("dead", "enginehouse_dead_letters", _ROWS["dead_letter.added"][1]),
        ):
            family = CounterMetricFamily(name, text, labels=("pool",))
            for pool in pools:
                family.add_metric((pool,), self._counts[what, pool])
            yield family

    def _forget(self, here: Collection[str]) -> None:
        self._counts = Counter({key: count for key, count in self._counts.items() if key[1] in here})
        self._ends = Counter({key: count for key, count in self._ends.items() if key[0] in here})
        self._durations = {pool: found for pool, found in self._durations.items() if pool in here}
