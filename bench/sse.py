"""Event streams: many readers of many events, many who wait, and one who does not read."""

from __future__ import annotations

from functools import partial

from bench.figures import Figure, Scale, at_least, at_most, figure
from bench.http import AUTHORIZED
from bench.load import get
from bench.measure import in_turn
from bench.servers import NODE, Peer, peer, peers, read_events

__all__ = ["ROWS"]

ROWS = ("deliveries", "idle_readers", "slow_reader")
EVENTS_PER_S = 500
OURS = get("/api/v1/engines/ticker/events", AUTHORIZED, "Accept: text/event-stream")
THEIRS = get("/events")


def _read(server: Peer, **options: float) -> partial[dict[str, float]]:
    return partial(read_events, server, OURS if server.name == "house" else THEIRS, **options)  # type: ignore[arg-type]  # numbers


def deliveries(scale: Scale) -> list[Figure]:
    """A hundred readers of 500 events per second: durable ones here, from memory there."""
    options = {"readers": scale.of(100, 5), "seconds": scale.of(30, 2) / 10, "warm_s": scale.of(10, 1) / 10}
    names = ["house", "quart", "fastapi", *(["node"] if NODE else [])]
    with peers(*names, events_per_s=EVENTS_PER_S) as served:
        found = in_turn(scale.rounds, **{name: _read(server, **options) for name, server in served.items()})
    rates = {name: [one["rate"] for one in side] for name, side in found.items()}
    what = f"SSE, {options['readers']} readers, {options['readers'] * EVENTS_PER_S:,} deliveries/s offered"
    node = [figure(what, "1/s", rates["house"], "node, per event", rates["node"], at_least(0.7))] if NODE else []
    return [
        figure(what, "1/s", rates["house"], "per event, quart", rates["quart"], at_least(3.5)),
        figure(what, "1/s", rates["house"], "sse-starlette", rates["fastapi"]),
        *node,
        figure("the same, age of an event, p99", "ms", [one["p99_s"] * 1000 for one in found["house"]]),
    ]


def idle_readers(scale: Scale) -> list[Figure]:
    """Readers of a stream on which nothing happens; as many as one key may have."""
    readers = scale.of(1000, 20)

    def measured(name: str) -> dict[str, float]:
        with peer(name) as server:
            return _read(server, readers=readers, seconds=0.1, warm_s=0.5)()

    def one(name: str) -> partial[dict[str, float]]:
        return partial(measured, name)

    found = in_turn(min(scale.rounds, 3), house=one("house"), **({"node": one("node")} if NODE else {}))
    each = {name: [one["bytes_each"] / 1000 for one in side] for name, side in found.items()}
    return [
        figure(f"memory of {readers} idle readers, each", "kB", each["house"], budget=at_most(30)),
        *(
            [figure(f"memory of {readers} idle readers, each", "kB", each["house"], "node", each["node"])]
            if NODE
            else []
        ),
    ]


def slow_reader(scale: Scale) -> list[Figure]:
    """Ten readers who read, with and without one who does not."""
    seconds = scale.of(100, 2) / 10
    options = {"readers": 10, "seconds": seconds, "warm_s": scale.of(10, 1) / 10}
    with peer("house", events_per_s=scale.of(2000, 200)) as ours:
        found = in_turn(min(scale.rounds, 3), alone=_read(ours, **options), beside=_read(ours, stalled=1, **options))
    p99 = {name: [one["p99_s"] * 1000 for one in side] for name, side in found.items()}
    grown = [max(one["grown_bytes"], 0) / 1e6 for one in found["beside"]]
    return [
        figure("fast readers beside a stalled one, p99", "ms", p99["beside"], "alone", p99["alone"], at_most(1.3)),
        figure("memory that a stalled reader costs", "MB", grown, budget=at_most(20)),
    ]
