"""Whoever races for an approval, and however the house dies meanwhile: one winner, whom everybody is told of."""

import os

import pytest

from actors.context import Context
from actors.requests import Requests
from supervisor.intake import Intake
from tests.mutation import Mutation, mutated
from tests.simulation.races import race

RACES, BLOCK = 500, 50
TORTURE = int(os.environ.get("RACE_SEEDS", "10000"))
"""How many races `make torture` runs."""


def failed(first: int, count: int) -> str:
    found = [(seed, wrong) for seed in range(first, first + count) if (wrong := race(seed))]
    return "\n".join(f"seed {seed}: {'; '.join(wrong[:5])}" for seed, wrong in found[:5])


@pytest.mark.parametrize("first", range(0, RACES, BLOCK))
def test_each_request_is_decided_once_and_nothing_is_done_without_its_approval(first: int) -> None:
    assert not failed(first, BLOCK)


MUTATIONS = [
    Mutation("an approval of something else", Requests, "_found", "request.action_digest == action_digest", "True"),
    Mutation("an approval that has expired", Context, "_decided", "cell.requests.holds(request)", "True"),
    Mutation(
        "a winner that is not durable",
        Intake,
        "_stands",
        "isinstance(refusal, AlreadyDecided | RequestClosed)",
        "False",
    ),
    Mutation("a second decision", Requests, "resolve", "request.state is not RequestState.PENDING", "False"),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_broken_mechanism_is_seen(mutation: Mutation) -> None:
    with mutated(mutation):
        assert any(race(seed) for seed in range(RACES))


@pytest.mark.torture
@pytest.mark.parametrize("first", range(RACES, RACES + TORTURE, 500))
def test_the_same_in_many_more_races(first: int) -> None:
    assert not failed(first, 500)
