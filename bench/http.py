"""HTTP: commands and health over real sockets, against what stock frameworks do for less work."""

from __future__ import annotations

from functools import partial

from bench.figures import Figure, Scale, at_least, at_most, figure
from bench.load import get, post
from bench.measure import in_turn
from bench.peers.house import ADMIN, ENGINES
from bench.servers import load, peer, peers

__all__ = ["AUTHORIZED", "ROWS"]

ROWS = ("commands", "health", "concurrent")
AUTHORIZED = f"Authorization: Bearer {ADMIN}"
BODY = '{"type":"signal","name":"note","payload":{"text":"hello"}}'


def commands(scale: Scale) -> list[Figure]:
    """A command that is validated, made durable, queued and answered with 202; 32 connections, 100 engines."""
    ours = [post(f"/api/v1/engines/e{number}/commands", BODY, AUTHORIZED) for number in range(ENGINES)]
    theirs = [post("/commands", BODY)]
    seconds = scale.of(20, 1) / 10
    with peers("house", "quart", "fastapi", "fastapi+sqlite") as served:
        side = partial(partial, load, seconds=seconds)
        found = in_turn(
            scale.rounds,
            ours=side(served["house"], ours),
            constant=side(served["house"], [post("/constant", BODY)]),
            quart=side(served["quart"], theirs),
            fastapi=side(served["fastapi"], theirs),
            afternoon=side(served["fastapi+sqlite"], theirs),
        )
    rates = {name: [one["rate"] for one in side] for name, side in found.items()}
    p99 = {name: [one["p99_s"] * 1000 for one in side] for name, side in found.items()}
    what = "POST command, durable, 202"
    return [
        figure(what, "1/s", rates["ours"], "stock quart-trio, constant", rates["quart"], at_least(1.2)),
        figure(what, "1/s", rates["ours"], "FastAPI in memory", rates["fastapi"]),
        figure(what, "1/s", rates["ours"], "FastAPI + SQLite", rates["afternoon"], at_least(0.85)),
        figure(f"{what}, p99", "ms", p99["ours"], "FastAPI + SQLite", p99["afternoon"], at_most(0.3)),
        figure("our HTTP, constant 202", "1/s", rates["constant"], "our POST command", rates["ours"], at_most(1.25)),
    ]


def health(scale: Scale) -> list[Figure]:
    """The guard's answer."""
    seconds = scale.of(20, 1) / 10
    with peers("house", "quart") as served:
        found = in_turn(
            scale.rounds,
            ours=partial(load, served["house"], [get("/health/live")], seconds=seconds),
            quart=partial(load, served["quart"], [get("/health")], seconds=seconds),
        )
    rates = {name: [one["rate"] for one in side] for name, side in found.items()}
    return [
        figure("GET health/live", "1/s", rates["ours"], "stock quart-trio", rates["quart"], at_least(1.5)),
        figure("GET health/live", "1/s", rates["ours"], budget=at_least(1000)),
    ]


def concurrent(scale: Scale) -> list[Figure]:
    """A hundred clients who read engines, while each engine takes ten steps a second."""
    requests = [get(f"/api/v1/engines/e{number}", AUTHORIZED) for number in range(ENGINES)]
    with peer("house", step_s=0.1) as ours:
        found = in_turn(
            scale.rounds,
            ours=partial(load, ours, requests, seconds=scale.of(30, 2) / 10, connections=scale.of(100, 20)),
        )
    return [
        figure(
            "100 concurrent GET engine, p95", "ms", [one["p95_s"] * 1000 for one in found["ours"]], budget=at_most(50)
        ),
        figure("100 concurrent GET engine", "1/s", [one["rate"] for one in found["ours"]]),
    ]
